// A Node producer in the benchmark of adding many jobs (tests/benchmarks/add_bulk.py), told what to do in JSON lines on
// its standard input and answering each with a line. Ends with its input.
//
//   {data, opts, jobs, queue}   one addBulk of so many jobs, whose ids and task ids are `<n>`-numbered: {seconds, cpu_s}
//
// Options: those of every script.

import { createInterface } from 'node:readline';
import { performance } from 'node:perf_hooks';

import { begin, emit } from './harness.mjs';

const { bullmq, base } = await begin({});

const cpuSeconds = () => Object.values(process.cpuUsage()).reduce((sum, us) => sum + us, 0) / 1e6;

async function add({ data, opts, jobs, queue: name }) {
  const queue = new bullmq.Queue(name, base);
  await queue.waitUntilReady();
  const bulk = Array.from({ length: jobs }, (_, n) => ({
    name,
    data: { ...data, id: `job-${n}` },
    opts: { ...opts, jobId: `job-${n}` },
  }));
  const start = performance.now();
  const cpu = cpuSeconds();
  await queue.addBulk(bulk);
  const took = { seconds: (performance.now() - start) / 1000, cpu_s: cpuSeconds() - cpu };
  await queue.close();
  return took;
}

for await (const line of createInterface({ input: process.stdin })) {
  emit(await add(JSON.parse(line)));
}
process.exit(0);

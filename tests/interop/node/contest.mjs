// A Node worker in the worker benchmark, told what to do in JSON lines on its standard input; see
// tests/benchmarks/contest/child.py for what is said and answered. Ends with its input.

import { createInterface } from 'node:readline';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

import { begin, emit } from './harness.mjs';

const { bullmq, base } = await begin({});
const LOCK_MS = 60_000; // longer than any measurement

let worker;
let tally;

const cpuSeconds = () => Object.values(process.cpuUsage()).reduce((sum, us) => sum + us, 0) / 1e6;
const now = () => ({ at: performance.now() / 1000, cpu: cpuSeconds() });

async function work(job) {
  tally.first ??= now();
  if (tally.note) tally.starts[job.id] = (performance.timeOrigin + performance.now()) / 1000;
  if (tally.work_s > 0) await sleep(tally.work_s * 1000);
  return null;
}

function completed() {
  tally.done += 1;
  if (tally.done === tally.wanted) {
    tally.last = now();
    tally.enough();
  }
}

const actions = {
  async open({ queue, slots, work_s, note }) {
    tally = { work_s, note, done: 0, wanted: 0, starts: {} };
    worker = new bullmq.Worker(queue, work, { ...base, concurrency: slots, lockDuration: LOCK_MS });
    worker.on('completed', completed);
    worker.on('error', (error) => console.error(error.message));
    return {};
  },
  async until({ jobs }) {
    tally.wanted = jobs;
    if (tally.done < jobs) await new Promise((resolve) => { tally.enough = resolve; });
    return { seconds: tally.last.at - tally.first.at, cpu_s: tally.last.cpu - tally.first.cpu };
  },
  async starts() {
    return tally.starts;
  },
  async close() {
    await worker.close();
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: action, ...fields } = JSON.parse(line);
  emit(await actions[action](fields));
}
process.exit(0);

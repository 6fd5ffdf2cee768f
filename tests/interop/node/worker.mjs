// A Node worker on one queue. Prints {event: "ready"}, then {event: "active" | "completed" | "failed", id, …} for each
// job, then {event: "closed"} after SIGTERM or SIGINT, when the running jobs have ended.
//
// Options: queue; name (worker name); concurrency (default 1); work_ms (how long a job takes, default 0); fail (a
// message with which every attempt fails); worker (more options for BullMQ's Worker, e.g. {lockDuration: 1000}).

import { setTimeout as sleep } from 'node:timers/promises';

import { begin, emit, refuse } from './harness.mjs';

const { options, bullmq, base } = await begin({
  queue: undefined,
  name: undefined,
  concurrency: 1,
  work_ms: 0,
  fail: undefined,
  worker: {},
});
if (typeof options.queue !== 'string') refuse('queue: a name is needed');

async function work(job) {
  await sleep(options.work_ms);
  if (options.fail !== undefined) throw new Error(options.fail);
  return { by: 'node', id: job.id };
}

const worker = new bullmq.Worker(options.queue, work, {
  ...base,
  ...(options.name && { name: options.name }),
  concurrency: options.concurrency,
  ...options.worker,
});
worker.on('active', (job) => emit({ event: 'active', id: job.id, attemptsMade: job.attemptsMade }));
worker.on('completed', (job, result) => emit({ event: 'completed', id: job.id, result }));
worker.on('failed', (job, error) => emit({ event: 'failed', id: job?.id, reason: error.message }));
worker.on('error', (error) => console.error(error.message));

async function close() {
  await worker.close();
  emit({ event: 'closed' });
  process.exit(0);
}
process.once('SIGTERM', close);
process.once('SIGINT', close);

await worker.waitUntilReady();
emit({ event: 'ready' });

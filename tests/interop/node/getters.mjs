// What a Node dashboard sees of one queue. Prints {job: {…}} for each job, or {job: null, id} for one that is not
// there, then {counts: {…}}, {workers: [names]} and {paused}.
//
// Options: queue; ids (default: every job of every state).

import { begin, emit, refuse } from './harness.mjs';

const FIELDS = [
  'id', 'name', 'data', 'opts', 'returnvalue', 'failedReason', 'attemptsMade', 'attemptsStarted', 'stalledCounter',
  'stacktrace', 'progress', 'processedBy', 'timestamp', 'delay', 'priority', 'processedOn', 'finishedOn',
];

const { options, bullmq, base } = await begin({ queue: undefined, ids: undefined });
if (typeof options.queue !== 'string') refuse('queue: a name is needed');
const queue = new bullmq.Queue(options.queue, base);
queue.on('error', (error) => console.error(error.message));

async function show(job) {
  const fields = Object.fromEntries(FIELDS.map((field) => [field, job[field] ?? null]));
  emit({ job: { ...fields, state: await job.getState() } });
}

if (options.ids === undefined) {
  for (const job of await queue.getJobs()) await show(job);
} else {
  for (const id of options.ids) {
    const job = await queue.getJob(id);
    if (job) await show(job);
    else emit({ job: null, id });
  }
}
emit({ counts: await queue.getJobCounts() });
emit({ workers: (await queue.getWorkers()).map((worker) => worker.rawname ?? worker.name) });
emit({ paused: await queue.isPaused() });
await queue.close();

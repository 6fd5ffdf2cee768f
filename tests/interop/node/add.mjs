// A Node producer: adds the jobs of standard input, in order, and prints {queue, id} for each.
//
// Options: wait (default false): also wait for each job with QueueEvents, as Node's callers do, and print
// {queue, id, status: "completed", result} or {queue, id, status: "failed", reason} as each one ends. All ends must
// come within timeout_ms.

import { begin, emit, jobsFromStdin, PerQueue } from './harness.mjs';

const { options, bullmq, base } = await begin({ wait: false });
const queues = new PerQueue((name) => new bullmq.Queue(name, base));
// From the stream's beginning: a job may end between its waiter's look and the first XREAD, which starts at '$' by default.
const events = new PerQueue((name) => new bullmq.QueueEvents(name, { ...base, lastEventId: '0-0' }));

async function report(job, queue) {
  const ended = { queue, id: job.id };
  try {
    emit({ ...ended, status: 'completed', result: await job.waitUntilFinished(events.get(queue)) });
  } catch (error) {
    emit({ ...ended, status: 'failed', reason: error.message });
  }
}

const waits = [];
for await (const { queue, name, data, opts } of jobsFromStdin()) {
  const job = await queues.get(queue).add(name, data, opts);
  emit({ queue, id: job.id });
  if (options.wait) waits.push(report(job, queue));
}
await Promise.all(waits);
await events.close();
await queues.close();

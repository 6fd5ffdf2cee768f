// BullMQ for Node at the other end of a pipe: each line of standard input is a request, answered by a line with its
// number. One process serves many tests; what a test made is closed by its prefix.
//
//   {n, prefix, do: "queue",  queue, method, args}      a method of Queue; jobs in the answer are shown with FIELDS
//   {n, prefix, do: "flow",   method, args}             a method of FlowProducer
//   {n, prefix, do: "job",    queue, id, method, args}  a method of the job; {job: null} where there is none
//   {n, prefix, do: "wait",   queue, id, ttl}           job.waitUntilFinished: {result} or {reason}
//   {n, prefix, do: "listen", queue}                    QueueEvents from the stream's beginning, as lines {queue, heard}
//   {n, prefix, do: "work",   queue, opts, backoff}     a worker; its jobs do what `data.do` says (see act)
//   {n, prefix, do: "rest",   queue}                    close that worker, after its running jobs
//   {n, prefix, do: "repeat", args: [ms, opts, count]}  when a scheduler with these repeat options runs next, and next …
//   {n, prefix, do: "stop",   queue}                    as the Node stack ends: pause, close the worker by force, the queue
//   {n, prefix, do: "close"}                            close everything of the prefix
//
// Unasked: {prefix, queue, heard: [event, payload], at} and {prefix, queue, worker: event, id, …, at}. Options: none.

import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { begin, emit } from './harness.mjs';

const { bullmq, base } = await begin({ timeout_ms: 3_600_000 });
const { DelayedError, FlowProducer, Job, Queue, QueueEvents, UnrecoverableError, WaitingChildrenError, Worker } = bullmq;
const FIELDS = [
  'id', 'name', 'data', 'opts', 'returnvalue', 'failedReason', 'attemptsMade', 'attemptsStarted', 'stalledCounter',
  'stacktrace', 'progress', 'processedBy', 'timestamp', 'delay', 'priority', 'processedOn', 'finishedOn', 'parent',
  'deduplicationId',
];
const made = new Map();

// What nobody awaited must not end the other tests' process: it is told instead.
process.removeAllListeners('uncaughtException');
process.on('uncaughtException', (error) => emit({ prefix: '', queue: '', error: `uncaught: ${error.message}` }));

function object(prefix, kind, name, make) {
  const key = `${prefix} ${kind} ${name}`;
  if (!made.has(key)) {
    const thing = make();
    thing.on('error', (error) => emit({ prefix, queue: name, error: error.message }));
    thing.setMaxListeners(0);
    made.set(key, thing);
  }
  return made.get(key);
}

const options = (prefix) => ({ ...base, prefix });
const queue = (prefix, name) => object(prefix, 'queue', name, () => new Queue(name, options(prefix)));
const events = (prefix, name) =>
  object(prefix, 'events', name, () => new QueueEvents(name, { ...options(prefix), lastEventId: '0-0' }));

function shown(value) {
  if (value instanceof Job) return Object.fromEntries(FIELDS.map((field) => [field, value[field] ?? null]));
  if (Array.isArray(value)) return value.map(shown);
  if (value?.job instanceof Job) return { job: shown(value.job), children: (value.children ?? []).map(shown) };
  return value ?? null;
}

/** What a job's `data.do` asks for, one step after the other; the same words as `acts` in Python. */
async function act(prefix, job, token) {
  for (const [verb, value] of job.data?.do ?? []) {
    if (verb === 'sleep') await sleep(value);
    else if (verb === 'fail') throw new Error(value);
    else if (verb === 'fail_times') {
      if (job.attemptsMade < value) throw new Error(`attempt ${job.attemptsMade + 1}`);
    } else if (verb === 'unrecoverable') throw new UnrecoverableError(value);
    else if (verb === 'progress') await job.updateProgress(value);
    else if (verb === 'log') await job.log(value);
    else if (verb === 'children') return await job.getChildrenValues();
    else if (verb === 'delay_once') {
      if (job.attemptsStarted < 2) {
        await job.moveToDelayed(Date.now() + value, token);
        throw new DelayedError();
      }
    } else if (verb === 'delay') {
      await job.moveToDelayed(Date.now() + value, token);
      throw new DelayedError();
    } else if (verb === 'requeue_once') {
      if (job.attemptsStarted < 2) {
        await job.moveToWait(token);
        throw new bullmq.WaitingError();
      }
    } else if (verb === 'await_children') {
      if (await job.moveToWaitingChildren(token)) throw new WaitingChildrenError();
    } else if (verb === 'rate_limit_once') {
      if (job.attemptsStarted < 2) {
        await queue(prefix, job.queueName).rateLimit(value);
        throw Worker.RateLimitError();
      }
    } else if (verb === 'return') return value;
    else throw new UnrecoverableError(`unknown verb ${verb}`);
  }
  return { by: 'node', id: job.id };
}

const BACKOFFS = { squares: (attempts) => attempts * attempts * 10 };

function work(prefix, name, opts, backoff) {
  const settings = backoff && { settings: { backoffStrategy: BACKOFFS[backoff] } };
  const worker = object(prefix, 'worker', name, () =>
    new Worker(name, (job, token) => act(prefix, job, token), { ...options(prefix), ...opts, ...settings }));
  const tell = (event, fields) => emit({ prefix, queue: name, worker: event, at: Date.now(), ...fields });
  worker.on('active', (job) => tell('active', { id: job.id, attemptsMade: job.attemptsMade }));
  worker.on('completed', (job, result) => tell('completed', { id: job.id, result }));
  worker.on('failed', (job, error) => tell('failed', { id: job?.id, reason: error.message }));
  worker.on('stalled', (id) => tell('stalled', { id }));
  return worker.waitUntilReady();
}

function listen(prefix, name) {
  const stream = events(prefix, name);
  const EVENTS = [
    'active', 'added', 'completed', 'deduplicated', 'delayed', 'drained', 'failed', 'paused', 'progress', 'removed',
    'resumed', 'retries-exhausted', 'stalled', 'waiting', 'waiting-children', 'cleaned',
  ];
  for (const event of EVENTS) {
    stream.on(event, (payload) => emit({ prefix, queue: name, heard: [event, payload ?? null], at: Date.now() }));
  }
  return stream.waitUntilReady();
}

async function close(prefix, which = '') {
  const mine = [...made.keys()].filter((key) => key.startsWith(`${prefix} ${which}`));
  const things = mine.map((key) => made.get(key));
  mine.forEach((key) => made.delete(key));
  await Promise.all(things.map((thing) => thing.close()));
}

async function wait(prefix, name, id, ttl) {
  const job = await queue(prefix, name).getJob(id);
  const stream = events(prefix, name);
  await stream.waitUntilReady();
  try {
    return { result: await job.waitUntilFinished(stream, ttl) };
  } catch (error) {
    return { reason: error.message };
  }
}

/** The library's own repeat strategy, from one time to the next as its worker calls it. */
function repeat(from, opts, count) {
  const times = [from];
  for (let i = 0; i < count; i++) times.push(bullmq.defaultRepeatStrategy(times.at(-1), opts));
  return times.slice(1);
}

async function answer({ prefix, do: what, queue: name, id, method, args = [], opts = {}, backoff, ttl }) {
  switch (what) {
    case 'queue':
      return shown(await queue(prefix, name)[method](...args));
    case 'flow': {
      const flows = object(prefix, 'flows', '', () => new FlowProducer(options(prefix)));
      return shown(await flows[method](...args));
    }
    case 'job': {
      const job = await queue(prefix, name).getJob(id);
      if (!job) return { job: null };
      return shown(method ? await job[method](...args) : job);
    }
    case 'wait':
      return wait(prefix, name, id, ttl);
    case 'listen':
      return void (await listen(prefix, name));
    case 'work':
      return void (await work(prefix, name, opts, backoff));
    case 'rest':
      return void (await close(prefix, `worker ${name}`));
    case 'repeat':
      return repeat(...args);
    case 'stop':
      await queue(prefix, name).pause();
      await made.get(`${prefix} worker ${name}`)?.close(true);
      made.delete(`${prefix} worker ${name}`);
      return void (await close(prefix, `queue ${name}`));
    case 'close':
      return void (await close(prefix));
    default:
      throw new Error(`unknown request ${what}`);
  }
}

emit({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  answer(request).then(
    (ok) => emit({ n: request.n, ok: ok ?? null }),
    (error) => emit({ n: request.n, error: `${error.name}: ${error.message}` }),
  );
}
process.exit(0);

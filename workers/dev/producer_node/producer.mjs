// Adds e-mail jobs with npm bullmq, as the Node stack does: first the example jobs, then a steady trickle.
//
//   REDIS_URL=redis://127.0.0.1:6379 node producer.mjs [--rate 1] [--queues email-send] [--prefix bull]
//                                                      [--run ID] [--count N] [--with-parent]
//
// --rate        jobs a second of the trickle; 0 ends after the example jobs. Defaults to 1.
// --queues      only jobs of these queues, comma-separated. Defaults to email-send.
// --run         makes job ids unique. Defaults to the time.
// --count       jobs of the trickle after which it ends. Defaults to no end.
// --with-parent ends when standard input closes, that is when the parent dies.
//
// Prints one JSON line for each thing that happens. SIGTERM and SIGINT end it with exit code 0; a Redis that is
// gone for 15 s with 3; a wrong argument with 2. It makes a Queue and nothing else: a Worker here would compete
// for the jobs.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Queue } from "bullmq";
import { Redis } from "ioredis";

const GIVE_UP_MS = 15_000;
const ADD_TIMEOUT_MS = 5_000;
const AGAIN_MS = 500;

const say = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
const readJson = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));

function readArguments() {
  const text = { type: "string" };
  const { values } = parseArgs({
    options: { rate: text, queues: text, prefix: text, run: text, count: text, "with-parent": { type: "boolean" } },
  });
  const rate = Number(values.rate ?? "1");
  const count = Number(values.count ?? "Infinity");
  if (!(rate >= 0 && rate <= 1000)) throw new Error("--rate must be between 0 and 1000");
  if (!(count >= 0)) throw new Error("--count must not be negative");
  if (!process.env.REDIS_URL) throw new Error("REDIS_URL is not set");
  return {
    rate,
    count,
    queues: (values.queues ?? "email-send").split(",").map((name) => name.trim()),
    prefix: values.prefix ?? "bull",
    run: values.run ?? Date.now().toString(36),
    withParent: values["with-parent"] ?? false,
  };
}

// bullmq refuses a custom id with colons unless it has exactly two, so `user:reset-password` gets its second one.
const unique = (id, run) => (id.split(":").length === 2 ? `${id}:${run}` : `${id}-${run}`);

function* exampleJobs(queues, run) {
  for (const { queue, name, data, opts } of readJson("../example_jobs.json")) {
    if (!queues.includes(queue)) continue;
    const jobId = opts.jobId === undefined ? {} : { jobId: unique(opts.jobId, run) };
    yield { queue, name, data: { ...data, id: unique(data.id, run) }, opts: { ...opts, ...jobId } };
  }
}

function* trickleJobs(queues, run, count) {
  const scenario = readJson("../scenario.json");
  const templates = scenario.jobs.filter((job) => queues.includes(job.queue));
  for (let n = 1; n <= count && templates.length > 0; n++) {
    const { queue, name, data, opts } = fill(templates[(n - 1) % templates.length], { n, run });
    yield { queue, name, data, opts: { ...scenario.opts, ...opts } };
  }
}

function fill(template, values) {
  if (typeof template === "string") return template.replace(/\{(n|run)\}/g, (_, key) => values[key]);
  if (Array.isArray(template)) return template.map((item) => fill(item, values));
  if (template === null || typeof template !== "object") return template;
  return Object.fromEntries(Object.entries(template).map(([key, value]) => [key, fill(value, values)]));
}

class RedisGone extends Error {}

class Adder {
  #queues = new Map();
  #goneSince = null;
  #trouble = "";

  constructor(url, prefix) {
    this.prefix = prefix;
    this.connection = new Redis(url, {
      connectTimeout: 2_000,
      commandTimeout: ADD_TIMEOUT_MS,
      maxRetriesPerRequest: 1,
      enableOfflineQueue: false, // a producer must hear at once that Redis is gone
      retryStrategy: (tries) => Math.min(tries * 100, 1_000),
    });
    this.connection.on("error", (error) => (this.#trouble = error.message || error.code));
  }

  /** Adds the job, trying again while Redis is away; its fixed id keeps a repeated add from making two. */
  async add({ queue, name, data, opts }, signal) {
    for (;;) {
      try {
        const job = await within(ADD_TIMEOUT_MS, this.#queue(queue).add(name, data, opts));
        this.#goneSince = null;
        this.#trouble = "";
        return job.id;
      } catch (error) {
        const message = this.#trouble || error.message;
        this.#goneSince ??= Date.now();
        if (Date.now() - this.#goneSince > GIVE_UP_MS) throw new RedisGone(`Redis is gone: ${message}`);
        say("trouble", { message });
        await sleep(AGAIN_MS, undefined, { signal });
      }
    }
  }

  async close() {
    const closing = [...this.#queues.values()].map((queue) => queue.close());
    await within(1_000, Promise.allSettled(closing)).catch(() => {});
    this.connection.disconnect();
  }

  #queue(name) {
    if (!this.#queues.has(name)) {
      const queue = new Queue(name, { connection: this.connection, prefix: this.prefix });
      queue.on("error", () => {}); // the failing add says it
      this.#queues.set(name, queue);
    }
    return this.#queues.get(name);
  }
}

async function within(ms, promise) {
  const done = new AbortController();
  const late = sleep(ms, undefined, { signal: done.signal }).then(() => {
    throw new Error(`no reply within ${ms} ms`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    late.catch(() => {});
    done.abort();
  }
}

async function produce(adder, { queues, run, count, rate }, signal) {
  const add = async (job) => say("added", { queue: job.queue, id: await adder.add(job, signal) });
  for (const job of exampleJobs(queues, run)) {
    await add(job);
    if (signal.aborted) return;
  }
  let due = Date.now();
  for (const job of rate > 0 ? trickleJobs(queues, run, count) : []) {
    due = Math.max(due + 1000 / rate, Date.now()); // what an outage delayed is not made up for in a burst
    await sleep(due - Date.now(), undefined, { signal });
    await add(job);
  }
}

async function main() {
  const settings = readArguments();
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => stop.abort());
  process.stdout.on("error", () => stop.abort()); // nobody listens any more
  if (settings.withParent) process.stdin.resume().on("close", () => stop.abort());

  const adder = new Adder(process.env.REDIS_URL, settings.prefix);
  say("started", { node: process.versions.node, run: settings.run });
  try {
    await produce(adder, settings, stop.signal);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  } finally {
    await adder.close();
  }
  say("stopped");
}

main().then(
  () => process.exit(0),
  (error) => {
    say("failed", { message: error.message });
    process.exit(error instanceof RedisGone ? 3 : 2);
  },
);

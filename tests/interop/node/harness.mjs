// What the scripts share: options from one JSON argument, the wanted major of bullmq, JSON lines out, a deadline.
//
// Every script takes one argument, a JSON object:
//   redis       redis:// URL; loopback only
//   prefix      BullMQ's key prefix (default "bull")
//   bullmq      major version of npm bullmq, 5 or 6 (default 6)
//   timeout_ms  the script ends itself after that long, with exit code 3 (default 30000)
// Exit codes: 0 done, 1 failed, 2 wrong options, 3 timed out. Messages for people go to standard error.

import { createInterface } from 'node:readline';

const LIBRARIES = { 5: 'bullmq5', 6: 'bullmq' };
const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]'];

process.on('uncaughtException', (error) => {
  console.error(error.errors?.[0]?.message ?? error.message ?? error);
  process.exit(1);
});

/** End the script because of how it was called. */
export function refuse(message) {
  console.error(message);
  process.exit(2);
}

/** Parse a URL of a server on this machine. */
export function loopback(name, text) {
  if (!URL.canParse(text ?? '')) refuse(`${name}: a URL is needed, not ${JSON.stringify(text)}`);
  const url = new URL(text);
  if (!LOOPBACK.includes(url.hostname)) refuse(`${name}: only this machine, not ${url.hostname}`);
  return url;
}

/** Print one JSON line. */
export function emit(record) {
  process.stdout.write(`${JSON.stringify(record)}\n`);
}

/**
 * Read the options, start the deadline, load bullmq.
 *
 * Returns {options, bullmq, base}: `base` holds prefix and connection, as every BullMQ constructor wants them.
 */
export async function begin(defaults) {
  let given;
  try {
    given = JSON.parse(process.argv[2] ?? '');
  } catch (error) {
    refuse(`The first argument must be a JSON object: ${error.message}`);
  }
  const options = { prefix: 'bull', bullmq: 6, timeout_ms: 30_000, ...defaults, ...given };
  const unknown = Object.keys(given).filter((key) => !(key in { redis: '', prefix: '', bullmq: '', timeout_ms: '', ...defaults }));
  if (unknown.length > 0) refuse(`Unknown options: ${unknown.join(', ')}`);
  if (!(options.bullmq in LIBRARIES)) refuse(`bullmq: 5 or 6, not ${options.bullmq}`);

  setTimeout(() => {
    console.error(`Timed out after ${options.timeout_ms} ms`);
    process.exit(3);
  }, options.timeout_ms).unref();

  const url = loopback('redis', options.redis);
  const connection = {
    host: url.hostname.replace(/[[\]]/g, ''),
    port: Number(url.port || 6379),
    username: decodeURIComponent(url.username) || undefined,
    password: decodeURIComponent(url.password) || undefined,
    db: Number(url.pathname.slice(1) || 0),
    maxRetriesPerRequest: null,
  };
  const bullmq = await import(LIBRARIES[options.bullmq]);
  return { options, bullmq, base: { prefix: options.prefix, connection } };
}

/** Yield the job of each line of standard input: {queue, name, data, opts}. */
export async function* jobsFromStdin() {
  let number = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    number += 1;
    if (line.trim() === '') continue;
    let job;
    try {
      job = JSON.parse(line);
    } catch (error) {
      refuse(`Line ${number} of standard input is not JSON: ${error.message}`);
    }
    if (typeof job.queue !== 'string') refuse(`Line ${number} of standard input names no queue`);
    yield { name: job.queue, data: {}, opts: {}, ...job };
  }
}

/** One object per queue name, made when first asked for, all closed together. */
export class PerQueue {
  #make;
  #made = new Map();

  constructor(make) {
    this.#make = make;
  }

  get(name) {
    if (!this.#made.has(name)) {
      const object = this.#make(name);
      object.on('error', (error) => console.error(`${name}: ${error.message}`));
      object.setMaxListeners(0); // each waitUntilFinished adds two
      this.#made.set(name, object);
    }
    return this.#made.get(name);
  }

  async close() {
    await Promise.all([...this.#made.values()].map((object) => object.close()));
  }
}

// A Node producer with telemetry (bullmq-otel, npm bullmq 6): adds the jobs of standard input and prints
// {queue, id, traceId, spanId} for each, the span being the producer's, as the job carries it; null where the job's
// opts.telemetry.omitContext keeps the context out. Ends when the spans have been exported.
//
// Options: endpoint (where OTLP over HTTP takes traces, e.g. http://127.0.0.1:4318/v1/traces; loopback only);
// service (service.name, default "node-producer").

import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { BullMQOtel } from 'bullmq-otel';

import { begin, emit, jobsFromStdin, loopback, PerQueue, refuse } from './harness.mjs';

const { options, bullmq, base } = await begin({ endpoint: undefined, service: 'node-producer' });
if (options.bullmq !== 6) refuse('bullmq: telemetry is tried with 6 only');
const endpoint = loopback('endpoint', options.endpoint);

const exporter = new OTLPTraceExporter({ url: endpoint.href, timeoutMillis: 5_000 });
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ 'service.name': options.service }),
  spanProcessors: [new BatchSpanProcessor(exporter)],
});
provider.register(); // W3C trace context and baggage are its default propagators

const telemetry = new BullMQOtel({ tracerName: options.service });
const queues = new PerQueue((name) => new bullmq.Queue(name, { ...base, telemetry }));

function producerSpan(job) {
  const metadata = job.opts.telemetry?.metadata;
  const [, traceId, spanId] = JSON.parse(metadata ?? '{}').traceparent?.split('-') ?? [];
  return { traceId: traceId ?? null, spanId: spanId ?? null };
}

for await (const { queue, name, data, opts } of jobsFromStdin()) {
  const job = await queues.get(queue).add(name, data, opts);
  emit({ queue, id: job.id, ...producerSpan(job) });
}
await queues.close();
await provider.forceFlush();
await provider.shutdown();

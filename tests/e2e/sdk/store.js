// A service with spans of its own by the OpenTelemetry SDK for Node.js that speaks Jaeger's
// uber-trace-id and nothing else, as a service does that was moved from a Jaeger client.
'use strict';
const fs = require('fs');
const http = require('http');
const path = require('path');
// The packages live where scripts/install-deps put them, not beside this file.
const { createRequire } = require('module');
const load = createRequire(path.join(process.env.NODE_PACKAGES, 'index.js'));
const { context, trace, ROOT_CONTEXT, SpanKind, defaultTextMapGetter, defaultTextMapSetter } = load('@opentelemetry/api');
const { NodeTracerProvider, SimpleSpanProcessor } = load('@opentelemetry/sdk-trace-node');
const { JaegerPropagator } = load('@opentelemetry/propagator-jaeger');

const exporter = {
  export(spans, done) {
    for (const span of spans) {
      const { traceId, spanId } = span.spanContext();
      const parent = span.parentSpanContext;
      fs.appendFileSync(process.env.SPANS_FILE, JSON.stringify({
        service: 'store', name: span.name, kind: SpanKind[span.kind].toLowerCase(),
        traceId, spanId, parentSpanId: parent ? parent.spanId : '' }) + '\n');
    }
    done({ code: 0 });
  },
  shutdown() { return Promise.resolve(); },
};
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
const tracer = provider.getTracer('store');
const propagator = new JaegerPropagator();

http.createServer((request, response) => {
  const incoming = propagator.extract(ROOT_CONTEXT, request.headers, defaultTextMapGetter);
  const server = tracer.startSpan('handle', { kind: SpanKind.SERVER }, incoming);
  const inServer = trace.setSpan(incoming, server);
  const client = tracer.startSpan('call', { kind: SpanKind.CLIENT }, inServer);
  const headers = {};
  propagator.inject(trace.setSpan(inServer, client), headers, defaultTextMapSetter);
  http.get(process.env.NEXT_URL, { headers }, (answer) => {
    answer.on('end', () => {
      client.end();
      server.end();
    });
    answer.pipe(response);
  }).on('error', (error) => {
    client.end();
    server.end();
    response.writeHead(502);
    response.end(String(error));
  });
}).listen(Number(process.env.PORT));

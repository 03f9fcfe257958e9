// crm-mobile: the phone's view of a customer, asked from crm-conductor.
// Knows nothing of a mesh; forwards the two trace headers and does nothing else with them,
// and with FORWARD_TRACE_HEADERS=0 not even that.
'use strict';
const http = require('http');
const conductor = new URL(process.env.CONDUCTOR_URL);
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

function forwarded(headers) {
  const kept = {};
  if (process.env.FORWARD_TRACE_HEADERS === '0') return kept;
  for (const name of ['traceparent', 'tracestate']) if (headers[name]) kept[name] = headers[name];
  return kept;
}

http.createServer((request, response) => {
  const upstream = http.request({
    agent,
    host: conductor.hostname,
    port: conductor.port,
    path: request.url.replace(/^\/mobile/, '/conductor'),
    method: request.method,
    headers: { host: conductor.host, ...forwarded(request.headers) },
  }, (answer) => {
    response.writeHead(answer.statusCode, { 'content-type': 'application/json' });
    answer.pipe(response);
  });
  upstream.on('error', (error) => {
    if (!response.headersSent) response.writeHead(502, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ error: `crm-conductor: ${error.code || error.message}` }));
  });
  request.pipe(upstream);
}).listen({ host: '::', port: Number(process.env.PORT) });

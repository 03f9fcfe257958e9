// A server in Node: GET /r/ID calls /u/ID upstream. The query is how: nothing (at once),
// twice, timer (after 3 ms), file (after reading one).
'use strict';
const fs = require('fs');
const http = require('http');
const [host, port] = process.env.UPSTREAM.split(':');
const agent = new http.Agent({ keepAlive: process.env.POOLED === '1', maxSockets: Number(process.env.SOCKETS || 1024) });

function call(path) {
  if (process.env.FETCH === '1') return fetch(`http://${host}:${port}${path}`).then((answer) => answer.text());
  return new Promise((resolve, reject) => {
    http.get({ agent, host, port, path }, (answer) => {
      let body = '';
      answer.setEncoding('utf8');
      answer.on('data', (chunk) => { body += chunk; });
      answer.on('end', () => resolve(body));
    }).on('error', reject);
  });
}
let n = 0;
function background() {
  call(`/u/background-${n++}`).catch(() => {});
}
async function serve(target) {
  if (target === '/background') {
    setInterval(background, 20);
    return 'started';
  }
  const [path, mode] = target.replace('/r/', '/u/').split('?');
  if (mode === 'timer') await new Promise((resolve) => setTimeout(resolve, 3));
  if (mode === 'file') await fs.promises.readFile(__filename);
  if (mode === 'twice') {
    await call(path + '/1');
    return call(path + '/2');
  }
  return call(path);
}
http.createServer((request, response) => {
  serve(request.url).then((body) => response.end(body), (error) => {
    response.writeHead(502);
    response.end(String(error));
  });
}).listen({ host: '0.0.0.0', port: 8080, backlog: 1024 });

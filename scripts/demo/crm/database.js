// crm-database: customers by number, kept in Redis. Speaks RESP by itself over one
// connection, as a small service does.
'use strict';
const http = require('http');
const net = require('net');
const [host, port] = [process.env.REDIS_HOST, Number(process.env.REDIS_PORT)];

let socket;
let waiting = [];
let buffered = '';
function connect() {
  socket = net.connect({ host, port });
  socket.setEncoding('utf8');
  socket.on('data', (chunk) => {
    buffered += chunk;
    for (;;) {
      const line = buffered.indexOf('\r\n');
      if (line < 0 || waiting.length === 0) return;
      const head = buffered.slice(0, line);
      if (head[0] === '$' && head !== '$-1') {
        const end = line + 2 + Number(head.slice(1));
        if (buffered.length < end + 2) return;
        waiting.shift()(null, buffered.slice(line + 2, end));
        buffered = buffered.slice(end + 2);
      } else {
        buffered = buffered.slice(line + 2);
        if (head[0] === '-') waiting.shift()(new Error(head.slice(1)));
        else waiting.shift()(null, head === '$-1' ? null : head.slice(1));
      }
    }
  });
  const lost = () => {
    socket = undefined;
    buffered = '';
    for (const callback of waiting.splice(0)) callback(new Error('connection to Redis lost'));
  };
  socket.on('error', () => {});
  socket.on('close', lost);
}
function command(words, callback) {
  if (!socket) connect();
  waiting.push(callback);
  socket.write(`*${words.length}\r\n` + words.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`).join(''));
}

http.createServer((request, response) => {
  const customer = /^\/db\/customers\/(\d+)/.exec(request.url);
  const reply = (status, body) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  };
  if (!customer) return reply(404, { error: 'no such table' });
  command(['GET', `customer:${customer[1]}`], (error, value) => {
    if (error) return reply(503, { error: error.message });
    if (value === null) return reply(404, { error: `no customer ${customer[1]}` });
    reply(200, { id: Number(customer[1]), name: value });
  });
}).listen({ host: '::', port: Number(process.env.PORT) });

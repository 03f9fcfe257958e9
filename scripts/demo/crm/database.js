// crm-database: customers by number, kept in Redis. Speaks RESP by itself over a pool of
// connections, one command at a time on each, as drivers with a pool do.
'use strict';
const http = require('http');
const net = require('net');
const [host, port] = [process.env.REDIS_HOST, Number(process.env.REDIS_PORT)];

const idle = [];
// The value of a whole reply in `text`, an Error, or undefined while more has to come.
function parse(text) {
  const line = text.indexOf('\r\n');
  if (line < 0) return undefined;
  const head = text.slice(0, line);
  if (head[0] === '-') return new Error(head.slice(1));
  if (head === '$-1') return null;
  if (head[0] !== '$') return head.slice(1);
  const end = line + 2 + Number(head.slice(1));
  return text.length < end + 2 ? undefined : text.slice(line + 2, end);
}
function connect() {
  const one = { socket: net.connect({ host, port }), buffered: '', callback: null };
  const answer = (error, value) => {
    const { callback } = one;
    one.callback = null;
    one.buffered = '';
    if (callback) callback(error, value);
  };
  one.socket.setEncoding('latin1'); // lengths are in bytes
  one.socket.on('data', (chunk) => {
    one.buffered += chunk;
    const value = parse(one.buffered);
    if (value === undefined) return;
    idle.push(one);
    if (value instanceof Error) answer(value);
    else answer(null, value && Buffer.from(value, 'latin1').toString());
  });
  one.socket.on('error', () => {});
  one.socket.on('close', () => {
    const at = idle.indexOf(one);
    if (at >= 0) idle.splice(at, 1);
    answer(new Error('connection to Redis lost'));
  });
  return one;
}
function command(words, callback) {
  const one = idle.pop() || connect();
  one.callback = callback;
  one.socket.write(`*${words.length}\r\n` + words.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`).join(''));
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

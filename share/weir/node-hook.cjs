// Tells weir which request of an HTTP server an outgoing HTTP request is made for.
//
//   NODE_OPTIONS=--require=/usr/share/weir/node-hook.cjs node app.js
//
// The context of a request is followed by AsyncLocalStorage, so through timers, files and
// promises. Each request that http.Server serves gets a token; the agent's program in the
// kernel is told of it on the socket that the request came by, and told it again on the socket
// that a request of http.request, fetch or undici is about to be written to. The message is a
// keep-alive time that no socket could have (bpf/abi/causality.h): the program takes it and
// answers EALREADY, and the socket stays as it was. Without an agent that listens the kernel
// answers EINVAL, and for a second nothing is said.
'use strict';

const { AsyncLocalStorage } = require('async_hooks');
const http = require('http');

const MARK = 0x40000000;
const INBOUND = 0x20000000;
const TOKENS = 0x1fffffff;
const { EALREADY, EINVAL } = require('os').constants.errno;
const SILENCE_MS = 1000;

// The token of a request that the agent does not know of: nothing is said of its calls.
const UNKNOWN = -1;
// Of what runs for no request: that is said.
const NOBODY = 0;

const serving = new AsyncLocalStorage();
const now = performance.now.bind(performance);
let token = 0;
let silentUntil = 0;

function say(socket, value) {
  const handle = socket && socket._handle;
  if (!handle || typeof handle.setKeepAlive !== 'function') return false;
  if (silentUntil !== 0) {
    if (now() < silentUntil) return false;
    silentUntil = 0;
  }
  const answer = handle.setKeepAlive(true, value);
  if (answer === -EINVAL) silentUntil = now() + SILENCE_MS;
  return answer === -EALREADY;
}

// What goes on behind an answer (a timer that a request has started) is for no request.
function current() {
  const known = serving.getStore();
  return known === undefined || known.response.writableEnded ? NOBODY : known.token;
}

function announce(socket, of) {
  if (of !== UNKNOWN) say(socket, MARK | of);
}

// ---- requests that come ----

const SERVED = new Set(['request', 'checkContinue', 'checkExpectation']);
const { emit } = http.Server.prototype;
http.Server.prototype.emit = function weirEmit(...words) {
  const [event, request, response] = words;
  if (!SERVED.has(event)) return Reflect.apply(emit, this, words);
  token = (token % TOKENS) + 1;
  const known = say(request.socket, MARK | INBOUND | token) ? token : UNKNOWN;
  return serving.run({ token: known, response }, () => Reflect.apply(emit, this, words));
};

// ---- requests of http and https ----

// When the request is made: one that waits for a free socket is given it in another's context.
const MADE_FOR = Symbol('weir.madeFor');
const { addRequest } = http.Agent.prototype;
http.Agent.prototype.addRequest = function weirAddRequest(request, ...rest) {
  request[MADE_FOR] = current();
  return addRequest.call(this, request, ...rest);
};

const { onSocket } = http.ClientRequest.prototype;
http.ClientRequest.prototype.onSocket = function weirOnSocket(socket, ...rest) {
  const of = this[MADE_FOR] === undefined ? current() : this[MADE_FOR];
  if (socket && socket.connecting) {
    socket.prependOnceListener('connect', () => announce(socket, of));
  } else {
    announce(socket, of);
  }
  return onSocket.call(this, socket, ...rest);
};

// ---- fetch, and undici itself ----

const channels = require('diagnostics_channel');
const madeFor = new WeakMap();
function subscribe(name, listener) {
  if (channels.subscribe) channels.subscribe(name, listener);
}
subscribe('undici:request:create', ({ request }) => madeFor.set(request, current()));
subscribe('undici:client:sendHeaders', ({ request, socket }) => {
  const of = madeFor.get(request);
  if (of !== undefined) announce(socket, of);
});

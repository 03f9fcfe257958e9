"""Servers in Python: GET /r/ID calls /u/ID upstream. KIND is threads, pool or asyncio."""
import asyncio
import concurrent.futures
import http.client
import itertools
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST, PORT = os.environ["UPSTREAM"].split(":")
KIND = os.environ["KIND"]
KEEPALIVE = os.environ.get("POOLED") == "1"
POOL = concurrent.futures.ThreadPoolExecutor(16)
LOCAL = threading.local()


def call(path):
    connection = getattr(LOCAL, "connection", None) if KEEPALIVE else None
    if connection is None:
        connection = http.client.HTTPConnection(HOST, int(PORT), timeout=20)
    connection.request("GET", path)
    body = connection.getresponse().read()
    if KEEPALIVE:
        LOCAL.connection = connection
    else:
        connection.close()
    return body


def background():
    for n in itertools.count():
        call(f"/u/background-{n}")
        time.sleep(0.02)


def serve(target):
    """The answer to one request's target."""
    if target == "/background":
        threading.Thread(target=background, daemon=True).start()
        return b"started"
    path, _, mode = target.partition("?")
    if mode == "timer":
        time.sleep(0.003)
    path = path.replace("/r/", "/u/", 1)
    if mode == "twice":
        call(path + "/1")
        return call(path + "/2")
    return POOL.submit(call, path).result() if "pool" in (KIND, mode) else call(path)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def do_GET(self):
        body = serve(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


async def call_async(path):
    reader, writer = await asyncio.open_connection(HOST, int(PORT))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: up\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]


async def background_async():
    for n in itertools.count():
        await call_async(f"/u/background-{n}")
        await asyncio.sleep(0.02)


TASKS = set()


async def answer_async(target):
    if target == "/background":
        TASKS.add(asyncio.create_task(background_async()))
        return b"started"
    path, _, mode = target.partition("?")
    if mode == "timer":
        await asyncio.sleep(0.003)
    return await call_async(path.replace("/r/", "/u/", 1))


async def on_connection(reader, writer):
    while head := await reader.readuntil(b"\r\n\r\n"):
        body = await answer_async(head.split()[1].decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()


async def serve_async():
    async def safely(reader, writer):
        try:
            await on_connection(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
    server = await asyncio.start_server(safely, "0.0.0.0", 8080, backlog=1024)
    await server.serve_forever()


if KIND == "asyncio":
    asyncio.run(serve_async())
else:
    Server(("0.0.0.0", 8080), Handler, socket.AF_INET).serve_forever()

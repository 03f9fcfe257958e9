"""Loads and servers of the fault tests, each in a process of its own, because descriptors are
limited to 20,000 a process. Every load prints one JSON object when SIGTERM ends it.

  fault_load.py serve                               HTTP on port 8080, an echo on 9000
  fault_load.py honest HOST PORT RATE CONNECTIONS   keep-alive GETs at RATE a second, open loop:
                                                    latency counts from the due time; SIGUSR1
                                                    prints and begins a new window
  fault_load.py hold HOST PORT COUNT KIND           COUNT connections that say the beginning of
                                                    KIND, one byte more a second, and wait
  fault_load.py storm HOST PORT RATE SECONDS        RATE connections a second that are reset, ended
                                                    without a byte, or given up in the handshake
"""
import asyncio
import collections
import json
import resource
import signal
import socket
import struct
import sys
import time

RESET = struct.pack("ii", 1, 0)

# What a connection of a kind says at once, and what it says again and again afterwards. The
# hello is the head of a TLS record and of a ClientHello of 508 bytes.
KINDS = {
    "idle": (b"*", b""),
    "headers": (b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ", b"x"),
    "body": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", b"x"),
    "hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0"),
    "preface": (b"PRI * HTTP/2.0\r\n", b""),
    "silent": (b"", b""),
}


def raise_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class HttpServer(asyncio.Protocol):
    """Answers each request with the bytes that its head and its body had."""

    def connection_made(self, transport):
        self.transport = transport
        self.buffer = bytearray()

    def data_received(self, data):
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end])
            length = 0
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if len(self.buffer) < end + 4 + length:
                return
            del self.buffer[:end + 4 + length]
            answer = json.dumps({"target": len(head.split(b" ", 2)[1]), "fields": head.count(b"\r\n"),
                                 "head": len(head), "body": length}).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))


class EchoServer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def serve():
    loop = asyncio.get_running_loop()
    for port, protocol in ((8080, HttpServer), (9000, EchoServer)):
        # None: both families, each with a socket of its own.
        await loop.create_server(protocol, None, port, backlog=4096)
    print("serving", flush=True)
    await asyncio.Event().wait()


class Honest:
    """What an application that does nothing wrong sees."""

    def __init__(self, host, port, rate, connections):
        self.host, self.port, self.rate, self.connections = host, int(port), float(rate), int(connections)
        self.request = b"GET /honest HTTP/1.1\r\nHost: server\r\n\r\n"
        self.clear()

    def clear(self):
        self.latencies, self.errors, self.whys = [], 0, collections.Counter()

    def print_window(self):
        took = sorted(self.latencies)
        share = lambda part: round(took[int(part * (len(took) - 1))] * 1e6) if took else 0  # noqa: E731
        print(json.dumps({"requests": len(took), "errors": self.errors, "p50_us": share(0.5),
                          "p99_us": share(0.99), "whys": dict(self.whys)}), flush=True)
        self.clear()

    async def one(self, index):
        interval = self.connections / self.rate
        due = time.monotonic() + interval * index / self.connections
        streams = None
        while True:
            await asyncio.sleep(max(0, due - time.monotonic()))
            try:
                if streams is None:
                    streams = await asyncio.wait_for(asyncio.open_connection(self.host, self.port), 10)
                streams[1].write(self.request)
                head = await asyncio.wait_for(streams[0].readuntil(b"\r\n\r\n"), 10)
                if not head.startswith(b"HTTP/1.1 200 "):
                    raise ValueError(head.split(b"\r\n")[0].decode())
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await streams[0].readexactly(length)
                self.latencies.append(time.monotonic() - due)
            except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                self.errors += 1
                self.whys[repr(error)[:80]] += 1
                if streams is not None:
                    streams[1].close()
                streams = None
            due = max(due + interval, time.monotonic() - 1)

    async def run(self):
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, end.set)
        loop.add_signal_handler(signal.SIGUSR1, self.print_window)
        tasks = [asyncio.create_task(self.one(i)) for i in range(self.connections)]
        print("running", flush=True)
        await end.wait()
        self.print_window()
        for task in tasks:
            task.cancel()


class Held(asyncio.Protocol):
    def __init__(self, hold):
        self.hold = hold

    def connection_made(self, transport):
        self.transport, self.began, self.answer = transport, time.monotonic(), b""
        self.hold.open.add(self)
        self.hold.opened += 1
        transport.write(self.hold.beginning)

    def data_received(self, data):
        self.answer += data[:64 - len(self.answer)]

    def connection_lost(self, error):
        self.hold.open.discard(self)
        self.hold.ended(time.monotonic() - self.began, self.answer, error)


class Hold:
    def __init__(self, host, port, count, kind):
        self.host, self.port, self.count = host, int(port), int(count)
        self.beginning, self.trickle = KINDS[kind]
        self.open, self.opened, self.failed = set(), 0, 0
        self.ends, self.lasted = collections.Counter(), []

    def ended(self, seconds, answer, error):
        what = "reset" if isinstance(error, ConnectionResetError) else "error" if error else "end"
        if answer.startswith(b"HTTP/1.1 "):
            what = answer[9:12].decode()
        self.ends[what] += 1
        self.lasted.append(seconds)

    async def connect(self, gate):
        async with gate:
            try:
                await asyncio.get_running_loop().create_connection(lambda: Held(self), self.host, self.port)
            except OSError:
                self.failed += 1

    async def run(self):
        end = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
        gate = asyncio.Semaphore(128)
        opening = [asyncio.create_task(self.connect(gate)) for _ in range(self.count)]
        if not self.trickle:
            await asyncio.wait(opening)
        print(f"opened {self.opened}", flush=True)
        while not end.is_set():
            for held in list(self.open) if self.trickle else ():
                held.transport.write(self.trickle)
            try:
                await asyncio.wait_for(end.wait(), 1)
            except asyncio.TimeoutError:
                pass
        print(json.dumps({"opened": self.opened, "failed": self.failed, "open": len(self.open),
                          "ends": dict(self.ends), "min_s": round(min(self.lasted, default=0), 2),
                          "max_s": round(max(self.lasted, default=0), 2)}), flush=True)


def storm(host, port, rate, seconds):
    """One loop of blocking calls: what it reached is in what it prints."""
    address, rate, seconds = (host, int(port)), float(rate), float(seconds)
    began = time.monotonic()
    counts = collections.Counter()
    made = 0
    while (now := time.monotonic()) < began + seconds:
        if made >= (now - began) * rate:
            time.sleep(0.0005)
            continue
        made += 1
        end = socket.socket()
        kind = ("reset", "fin", "abandoned", "reset", "reset")[made % 5]
        try:
            if kind == "abandoned":
                end.setblocking(False)
                end.connect_ex(address)
            else:
                end.settimeout(5)
                end.connect(address)
            if kind == "reset":
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            counts[kind] += 1
        except OSError as error:
            counts[f"failed {error.errno}"] += 1
        end.close()
    took = time.monotonic() - began
    print(json.dumps({"made": made, "per_s": round(made / took), "counts": dict(counts)}), flush=True)


def main():
    raise_limit()
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "serve":
        asyncio.run(serve())
    elif what == "honest":
        asyncio.run(Honest(*rest).run())
    elif what == "hold":
        asyncio.run(Hold(*rest).run())
    elif what == "storm":
        storm(*rest)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()

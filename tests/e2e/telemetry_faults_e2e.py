"""What must cost no request anything: collectors that are slow, dead, resetting or lying, full
disks, logs that nobody reads, and a clock that jumps. Two agents, every request a span on both
sides. docs/testing.md names what each must pass; WEIR_TEST_FULL=1 makes durations the full ones.

  sudo python3 tests/e2e/telemetry_faults_e2e.py --bin build/dev/bin --oracles build/oracles [-v]
"""
import argparse
import json
import os
import pathlib
import select
import signal
import statistics
import sys
import time
import unittest

import oracles
from fault_bed import run_tests
from figures import FULL, figure, scaled
from pair_bed import HERE, SIDES, AgentsMixin, bring_up, sh, wait_until

from weir_pair import WeirHttpPair, WeirTcpPair  # noqa: E402  (pair_bed has set the path)

PREFIX = "weir-tf"
RUN = pathlib.Path("/run/weir-tf")
BIN = ORACLES = None
QUEUE_BYTES = 1 << 20  # of each agent: small enough to overflow in seconds
MOST_REQUESTS_PER_S = 10000


class TelemetryPair(AgentsMixin, WeirHttpPair):
    """Each side has a collector of its own that does as it is told."""
    name = "faults"
    python = None
    telemetry = ""

    def start_proxies(self):
        for side in SIDES:
            self.behave("ok", side)
            self.log(side).touch()
            self.node_namespace(side)
            self.start_collector(side)
        WeirTcpPair.start_proxies(self)

    def log(self, side):
        return self.run / f"collector-{side}.jsonl"

    def behave(self, word, *sides):
        for side in sides or SIDES:
            path = self.run / f"behaviour-{side}"
            path.with_suffix(".new").write_text(word)
            path.with_suffix(".new").rename(path)

    def start_collector(self, side):
        process = self.start(side, self.node_namespace(side), f"collector-{side}", [
            self.python, HERE / "faulty_collector.py", "127.0.0.1", 4318, self.run / f"behaviour-{side}",
            self.log(side)])
        wait_until(f"the {side}'s collector", f"look at {self.run}/collector-{side}.log", lambda: ":4318 " in sh(
            "nsenter", f"--net=/run/netns/{self.node_namespace(side)}", "ss", "-Hltn"))
        return process

    def stop_collectors(self):
        for process in [p for p in self.processes if any("faulty_collector" in str(w) for w in p.args)]:
            process.kill()
            process.wait()
            self.processes.remove(process)

    def write_agent(self, side, ns, documents):
        super().write_agent(side, ns, documents)
        with open(self.run / f"agent-{side}.yaml", "a", encoding="utf-8") as out:
            out.write(self.telemetry)

    def received(self, side):
        """What the collector answered for, in sums over all requests."""
        calls = [json.loads(line) for line in self.log(side).read_text().splitlines()]
        return {"calls": len(calls), **{key: sum(call[key] for call in calls)
                                        for key in ("spans", "accepted", "again", "reversed")}}

    def drained(self, seconds=60):
        wait_until("an empty queue", f"{self.cli} --socket {self.run}/client.sock status",
                   lambda: all(self.spans_queue(side)["queued"] == 0 for side in SIDES), seconds)

    def dropped(self, side):
        return {d["reason"]: int(d["value"]) for e in self.status(side)["exporters"] for d in e.get("dropped", [])}


class PairTest(unittest.TestCase):
    """The tests of one kind of pair."""
    kind = None

    @classmethod
    def setUpClass(cls):
        ORACLES.mkdir(parents=True, exist_ok=True)
        TelemetryPair.python = oracles.python_with_protobuf(ORACLES)
        cls.pair = bring_up(cls, cls.kind, PREFIX, RUN, BIN)

    def load(self, mode, connections, seconds, extra=None):
        """A load in which nothing may fail."""
        result = self.pair.run_load(mode, connections, seconds, extra)
        self.assertEqual((result["errors"], result["sent"]), (0, result["answered"]), result)
        self.assertGreater(result["units"], 0)
        return result


class ThroughputTest(PairTest):
    kind = type("ThroughputPair", (TelemetryPair,), {})

    def test_no_span_is_lost_at_the_highest_rate(self):
        """10,000 requests a second, or 3/4 of what this machine passes at most."""
        pair, seconds = self.pair, scaled(4, 60)
        fastest = self.load("closed", 32, 1)
        rate = min(MOST_REQUESTS_PER_S, int(fastest["units"] / fastest["seconds"] * 0.75) // 100 * 100)
        pair.drained()
        before = {side: (pair.spans_queue(side), pair.received(side)) for side in SIDES}
        result = self.load("paced", 64, seconds, rate)
        reached = result["units"] / result["seconds"]
        pair.drained()
        calls = {}
        for side in SIDES:
            queue, received = pair.spans_queue(side), pair.received(side)
            was_queue, was_received = before[side]
            sent = result["sent"]
            self.assertEqual({key: queue[key] - was_queue[key] for key in queue},
                             {"generated": sent, "exported": sent, "dropped": 0, "queued": 0}, side)
            self.assertEqual(received["accepted"] - was_received["accepted"], sent, side)
            self.assertEqual((received["again"], received["reversed"]), (0, 0), side)
            calls[side] = (received["calls"] - was_received["calls"]) * 1000 / sent
            # A second's spans that do not fill a request are sent in one all the same.
            self.assertLessEqual(received["calls"] - was_received["calls"], 4 * sent / 1000 + 2, side)
        figure("throughput", f"{reached:.0f} requests/s for {seconds} s (asked for {rate}), {result['sent']} spans at "
               f"each side, none lost; calls per 1,000 spans " + ", ".join(f"{n:.2f}" for n in calls.values()))
        self.assertGreater(reached, rate * 0.9, "the machine did not keep the pace")


class CollectorTest(PairTest):
    kind = type("CollectorPair", (TelemetryPair,), {"telemetry": f"telemetry:\n  queueSize: {QUEUE_BYTES}\n"})
    RATE = scaled(300, 2000)

    def window(self):
        cpu = self.pair.cpu_seconds()
        result = self.load("paced", 32, scaled(2, 60), self.RATE)
        result["cpu_us"] = (self.pair.cpu_seconds() - cpu) * 1e6 / result["sent"]
        self.sent += result["sent"]
        return result

    def assert_accounted(self):
        """Nothing is queued: what was made went to the collector, or was dropped for a reason."""
        pair = self.pair
        for side in SIDES:
            queue, received = pair.spans_queue(side), pair.received(side)
            self.assertEqual(queue["exported"], received["accepted"], side)
            self.assertEqual(queue["dropped"], sum(pair.dropped(side).values()), side)
            self.assertEqual(queue["generated"] - self.first[side], self.sent, side)
            self.assertEqual((received["again"], received["reversed"]), (0, 0), side)

    def test_f14_whatever_the_collector_does_no_request_pays(self):
        pair = self.pair
        self.sent = 0
        pair.drained()
        self.first = {side: pair.spans_queue(side)["generated"] for side in SIDES}
        while self.sent < 12_000:  # the stores of flows and traces are full with 10,000
            self.sent += self.load("closed", 32, 1)["sent"]
        pair.drained()
        resident = {side: pair.resident_kib(side) for side in SIDES}
        ratios, lines = [], []
        for behaviour in ("slow", "reset", "429", "503", "partial", "refuse", "cut", "garbage", "down", "huge"):
            base = self.window()
            if behaviour == "down":
                pair.drained()  # nothing is under way whose answer would be lost
                pair.stop_collectors()
            else:
                pair.behave(behaviour)
            seen = self.window()
            if behaviour == "down":
                self.assert_overflows()
                for side in SIDES:
                    pair.behave("ok", side)
                    pair.start_collector(side)
            pair.behave("ok")
            pair.drained(seconds=120)
            self.assert_accounted()
            ratios.append(seen["p99_us"] / base["p99_us"])
            lines.append(f"{behaviour} {ratios[-1]:.2f}x")
            grown = {side: pair.resident_kib(side) - resident[side] for side in SIDES}
            # Answers are read up to 4 MiB, into a buffer that doubles: no more than that stays with the allocator.
            self.assertLess(max(grown.values()), QUEUE_BYTES / 1024 + (12288 if behaviour == "huge" else 2048), behaviour)
            # An attempt takes up to 10 s, the pause before the next one 0.5 s and more: nobody waited for either.
            self.assertLess(seen["p50_us"], 3 * base["p50_us"] + 250_000, behaviour)
        self.assert_every_drop_has_its_reason()
        figure("F14", f"{self.sent} requests at {self.RATE}/s, 0 errors; p99 against the window before: "
               f"{', '.join(lines)}, median {statistics.median(ratios):.2f}x; RSS {grown['client']:+d} and "
               f"{grown['server']:+d} KiB with a queue of {QUEUE_BYTES >> 10} KiB; drops {pair.dropped('client')}")
        if FULL:
            self.assertLessEqual(statistics.median(ratios), 1.05)

    def assert_overflows(self):
        """A dead collector and more spans than the queue holds: its bound in bytes is kept."""
        pair = self.pair
        for _ in range(20):
            self.window()
            for side in SIDES:
                for exporter in pair.status(side)["exporters"]:
                    self.assertLessEqual(int(exporter.get("queuedBytes", 0)), QUEUE_BYTES, side)
                pair.spans_queue(side)
            if all(pair.dropped(side).get("queue-full", 0) > 0 for side in SIDES):
                return
        self.fail("the queue never filled")

    def assert_every_drop_has_its_reason(self):
        for side in SIDES:
            dropped = self.pair.dropped(side)
            for reason in ("queue-full", "refused", "rejected", "bad-response"):
                self.assertGreater(dropped.get(reason, 0), 0, (side, reason))


class LogsPair(TelemetryPair):
    """The agents' standard error is a full pipe from the beginning; the client's access log is
    on a tiny disk, the server's is a FIFO."""
    name = "logs"
    DISK_BYTES = 256 << 10

    def start_proxies(self):
        self.disk = self.run / "disk"
        self.disk.mkdir()
        sh("mount", "-t", "tmpfs", "-o", f"size={self.DISK_BYTES}", "tmpfs", self.disk)
        self.fifo = self.run / "fifo"
        os.mkfifo(self.fifo)
        self.stuck = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)  # a reader that never reads
        self.paths = {"client": self.disk / "access.jsonl", "server": self.fifo}
        super().start_proxies()

    def write_agent(self, side, ns, documents):
        self.telemetry = f"telemetry:\n  accessLog: {self.paths[side]}\n"
        super().write_agent(side, ns, documents)

    def start(self, side, ns, log_name, words):
        if not log_name.startswith("agent-"):
            return super().start(side, ns, log_name, words)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"x" * 4096)
        except BlockingIOError:
            pass
        os.set_blocking(writer, True)
        self.readers = {**getattr(self, "readers", {}), side: reader}
        try:
            return super().start(side, ns, log_name, ["sh", "-c", f'exec "$@" 2>&{writer}', "sh", *words],
                                 pass_fds=(writer,))
        finally:
            os.close(writer)

    def lines(self, side):
        return {**{key: int(self.metric(side, f"weir_access_log_{key}")) for key in ("lines", "dropped", "queued")},
                **{reason: int(self.metric(side, "weir_access_log_dropped", f'reason="{reason}"'))
                   for reason in ("queue-full", "open-failed", "write-failed")}}

    def offered(self, side):
        lines = self.lines(side)
        return lines["lines"] + lines["dropped"] + lines["queued"]


class LogsTest(PairTest):
    kind = LogsPair

    def test_f15_logs_that_go_nowhere_cost_no_request(self):
        pair = self.pair
        for side in SIDES:
            self.assertGreater(pair.metric(side, "weir_log_dropped_lines"), 0, "standard error was full")
        wait_until("the lines so far", "weir status", lambda: all(pair.offered(s) > 0 for s in SIDES))
        before = {side: pair.offered(side) for side in SIDES}
        sent = 0
        for _ in range(20):  # until the disk, and the 8 MiB that wait for the FIFO, are full
            sent += self.load("closed", 32, scaled(2, 20))["sent"]
            if pair.lines("client")["write-failed"] and pair.lines("server")["queue-full"]:
                break
        wait_until("every request is accounted for", "weir status", lambda: all(
            pair.offered(side) - before[side] == sent for side in SIDES))
        client, server = pair.lines("client"), pair.lines("server")
        self.assertGreater(client["write-failed"], 0)
        self.assertGreater(server["queue-full"], 0)
        self.assertTrue(pair.paths["client"].read_bytes().endswith(b"}\n"), "a torn line")

        # A disk that has become read-only: the log cannot be opened anew.
        sh("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", pair.disk)
        os.kill(pair.agent_pid("client"), signal.SIGHUP)
        wait_until("lines are dropped for the read-only disk", "weir status", lambda: (
            self.load("paced", 8, 0.5, 200) and pair.lines("client")["open-failed"] > 0))

        # Room again, and readers again.
        sh("umount", pair.disk)
        with open(pair.paths["client"], "w", encoding="utf-8"):
            pass
        written = client["lines"]
        wait_until("lines are written again", "weir status", lambda: (
            self.load("paced", 8, 0.5, 200) and pair.lines("client")["lines"] > written))

        def read_on():
            while select.select([pair.stuck], [], [], 0.2)[0] and os.read(pair.stuck, 1 << 20):
                pass
            return pair.lines("server")["queued"] == 0

        wait_until("the FIFO is read", "weir status", read_on)
        figure("F15", f"{sent} requests, 0 errors; disk full: {client['lines']} lines written and "
               f"{client['write-failed']} dropped; FIFO: {server['queue-full']} dropped")
        self.assert_the_own_log_comes_back()

    def assert_the_own_log_comes_back(self):
        pair = self.pair
        reader = pair.readers["client"]
        os.set_blocking(reader, False)
        text = b""

        def says():
            nonlocal text
            try:
                while chunk := os.read(reader, 1 << 16):
                    text += chunk
            except BlockingIOError:
                pass
            return b"level=info config revision=" in text.replace(b"x" * 4096, b"")

        says()
        document = pair.run / "mesh.d" / "trace.yaml"
        fresh = document.with_suffix(".new")
        fresh.write_text(document.read_text().replace("overall: 100", "overall: 99"))
        fresh.rename(document)
        wait_until("the agent's log", "weir status", says)


class ClockPair(TelemetryPair):
    """The agents' wall clocks are what a file of each says; time as such goes on for both."""
    name = "clock"
    # The authority is two days old, so that a day back is no time before the mesh.
    ca_prefix = ("faketime", "-f", "-2d")
    ports = tuple(range(8080, 8110))

    def start_proxies(self):
        for side in SIDES:
            self.set_clock(0, side)
        super().start_proxies()

    def set_clock(self, seconds, *sides):
        for side in sides or SIDES:
            path = self.run / f"clock-{side}"
            path.with_suffix(".new").write_text(f"{seconds:+f}\n")
            path.with_suffix(".new").rename(path)

    def start(self, side, ns, log_name, words):
        if log_name.startswith("agent-"):
            library = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
            words = ["env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={self.run}/clock-{side}",
                     "FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1",
                     "NO_FAKE_STAT=1", *words]
        return super().start(side, ns, log_name, words)

    def connects(self, port):
        """Whether a request on a new tunnel is answered."""
        done = self.in_client("curl", "-s", "-m1", "-o", "/dev/null", "-w", "%{http_code}",
                              f"http://{self.server_ip}:{port}/small")
        return done.stdout == "200"


class ClockTest(PairTest):
    kind = ClockPair
    DAY = 86400
    MOST_SECONDS = 8  # until new tunnels stand: the cache of libfaketime, the agent's look at the clock

    def assert_clock_was_seen(self, seconds):
        """A certificate is made anew when the clock says that it is not valid (yet, or any more)."""
        for side in SIDES:
            made = self.pair.metric(side, "weir_certificate_start_timestamp_seconds") + 120  # dated back
            self.assertLess(abs(made - time.time() - seconds), 60, (side, seconds))

    def step(self, seconds, *sides, new_tunnels=True):
        """Sets the clock; how long it took until a new tunnel stood. Requests go on meanwhile."""
        pair = self.pair
        running = pair.load(pair.generator, "paced", 8, scaled(5, 30), 200)
        time.sleep(1)
        pair.set_clock(seconds, *sides)
        time.sleep(1.5)  # libfaketime looks once a second
        began = time.monotonic()
        if new_tunnels:
            port = self.free_ports.pop()
            wait_until(f"a new tunnel with the clock at {seconds:+} s", f"look at {pair.run}/agent-*.log",
                       lambda: pair.connects(port), self.MOST_SECONDS)
        took = time.monotonic() - began
        result = json.loads(running.communicate(timeout=120)[0].splitlines()[-1])
        self.requests += result["sent"]
        for side in SIDES:
            self.assertTrue(pair.status(side).get("ready", False), (seconds, side))
        self.lines.append(f"{seconds:+.0f} s: {took:.1f} s")
        return result

    def test_f23_a_clock_that_jumps_stalls_nothing(self):
        pair = self.pair
        self.free_ports, self.requests, self.lines = list(pair.ports[1:]), 0, []
        for seconds in (300, 0, -300, 0):
            result = self.step(seconds)
            self.assertEqual((result["errors"], result["sent"]), (0, result["answered"]), seconds)
            if seconds < 0:
                self.assert_clock_was_seen(seconds)
        # A day ahead all certificates have expired: tunnels are cut, and stand again at once.
        broken = 0
        for seconds in (self.DAY, 0, -self.DAY, 0):
            result = self.step(seconds)
            broken += result["errors"]
            self.assertLessEqual(result["errors"], 2 * 8, (seconds, result))
            if seconds:
                self.assert_clock_was_seen(seconds)
        for tenth in range(scaled(20, 200)):
            pair.set_clock(tenth / 20)
            time.sleep(0.1)
        self.assertEqual(self.step(1)["errors"], 0)
        # One node a little ahead, or behind: new certificates are dated back by 2 minutes.
        for seconds in (100, -100):
            pair.set_clock(0)
            self.assertEqual(self.step(seconds, "server")["errors"], 0)
        pair.set_clock(0)
        pair.drained()
        for side in SIDES:
            queue, received = pair.spans_queue(side), pair.received(side)
            self.assertEqual((queue["dropped"], queue["exported"]), (0, received["accepted"]), side)
            self.assertEqual(received["reversed"], 0, "spans that end before they begin")
        figure("F23", f"{self.requests} requests, {broken} broken when certificates expired by a step of a day; new "
               f"tunnels stood after: {', '.join(self.lines)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--oracles", required=True)
    options, rest = parser.parse_known_args()
    ORACLES = pathlib.Path(options.oracles).resolve()
    sys.argv = [sys.argv[0], *rest]
    run_tests(RUN, lambda path: globals().update(BIN=path))

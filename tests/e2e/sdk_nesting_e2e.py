"""Applications with spans of their own nest inside weir's spans and the other way round: the
OpenTelemetry SDKs of Python and Node.js and a Zipkin client, each with another format of
trace context, in one trace.

  sudo python3 tests/e2e/sdk_nesting_e2e.py --bin build/dev/bin [-v] [SdkNestingTest.test_...]

What the services need is installed by scripts/install-deps test.
"""
import argparse
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "demo"))

from crm_mesh import CrmMesh  # noqa: E402
from topology import wait_until  # noqa: E402

PREFIX = "weir-sdk"
RUN = pathlib.Path("/run/weir-sdk")
BIN = None
PACKAGES = None

# Each calls the next one: service -> (node, hint, port).
SERVICES = {
    "gateway": ("node-a", "http", 8080),  # Python, OpenTelemetry, W3C
    "store": ("node-b", "http", 8080),    # Node.js, OpenTelemetry, uber-trace-id only
    "legacy": ("node-a", "http", 8080),   # Python, Zipkin, B3 in several headers only
    "leaf": ("node-b", "http", 8080),     # knows nothing of traces
}
CHAIN = list(SERVICES)
# Whoever understands one format alone is told the context in it.
OPTIONS = {"store": "  traces: {formats: [jaeger]}\n", "legacy": "  traces: {formats: [b3-multi]}\n"}


class SdkMesh(CrmMesh):
    def workload_options(self, name):
        return OPTIONS.get(name, "")

    def start_application(self):
        python = PACKAGES / "venv" / "bin" / "python3"
        words = {"gateway": [python, HERE / "sdk" / "edge.py"], "store": ["node", HERE / "sdk" / "store.js"],
                 "legacy": [python, HERE / "sdk" / "legacy.py"], "leaf": ["python3", HERE / "sdk" / "leaf.py"]}
        following = dict(zip(CHAIN, CHAIN[1:] + [None]))
        for name, pod in self.pods.items():
            callee = following[name]
            self.topology.start_in_pod(pod, words[name], {
                "PORT": "8080", "SPANS_FILE": str(self.spans_file(name)),
                "NODE_PACKAGES": str(PACKAGES / "node" / "node_modules"),
                "NEXT_URL": f"http://{self.pods[callee].address}:8080/" if callee else ""})
        for name, pod in self.pods.items():
            wait_until(f"{name} listens", f"look at {self.topology.run}/{name}.log",
                       lambda pod=pod: ":8080 " in self.topology.in_netns(
                           pod.netns, "ss", "-Hltn", check=False), seconds=60)

    def spans_file(self, name):
        return self.topology.run / f"{name}.spans"

    def application_spans(self, trace_id):
        spans = []
        for name in CHAIN:
            path = self.spans_file(name)
            if path.exists():
                spans += [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        return [span for span in spans if span["traceId"] == trace_id]


class SdkNestingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mesh = SdkMesh(PREFIX, RUN, BIN / "weir-agent", BIN / "weir", SERVICES)
        cls.addClassCleanup(cls.mesh.topology.down)
        cls.mesh.topology.up()
        cls.mesh.write_configuration()
        cls.mesh.start_application()
        cls.mesh.start_agents()
        wait_until("an answer through the gateway", f"look at {RUN}/*.log",
                   lambda: cls.mesh.request("/")[0] == 200, seconds=60)

    def weir_spans(self, trace_id):
        return json.loads(self.mesh.weir_everywhere("traces", trace_id, "-o", "json"))["spans"]

    def ask(self, path, *headers):
        """One request from outside; gives what the leaf saw of its headers, by lower-case name."""
        words = [word for header in headers for word in ("-H", header)]
        out = self.mesh.topology.in_netns(self.mesh.client.netns, "curl", "-sf", "-m20", *words,
                                          self.mesh.gateway_url + path)
        return {name.lower(): value for name, value in json.loads(out).items()}

    def trace_of(self, path, *headers):
        """The trace of one request when it is whole: (weir's spans, the applications' spans)."""
        trace_id = self.ask(path, *headers)["traceparent"].split("-")[1]
        weir = wait_until("weir's seven spans", "weir traces",
                          lambda: (s := self.weir_spans(trace_id)) and len(s) >= 7 and s)
        own = wait_until("the applications' six spans", f"look at {RUN}/*.spans",
                         lambda: (s := self.mesh.application_spans(trace_id)) and len(s) >= 6 and s)
        self.assertEqual((len(weir), len(own)), (7, 6), (weir, own))
        by = {(s["service"], s["kind"]): s for s in weir}
        own_by = {({"edge": "gateway"}.get(s["service"], s["service"]), s["kind"]): s for s in own}
        self.assertEqual((len(by), len(own_by)), (7, 6))
        return by, own_by

    def check_chain(self, weir, own):
        """From the gateway's own server span on each span is the child of the one before it."""
        for here, there in zip(CHAIN, CHAIN[1:]):
            entered, left = own[here, "server"], own[here, "client"]
            if here == "legacy":  # Zipkin shares the span of who called: here weir's
                self.assertEqual(entered["spanId"], weir[here, "server"]["spanId"])
            elif here != "gateway":
                self.assertEqual(entered["parentSpanId"], weir[here, "server"]["spanId"], here)
            self.assertEqual(left["parentSpanId"], entered["spanId"], here)
            self.assertEqual(weir[here, "client"]["parentSpanId"], left["spanId"], here)
            self.assertEqual(weir[here, "client"]["parentSource"], "header", here)
            self.assertEqual(weir[there, "server"]["parentSpanId"], weir[here, "client"]["spanId"], there)

    def test_spans_of_applications_lie_between_weirs(self):
        weir, own = self.trace_of("/")
        self.assertFalse(weir["gateway", "server"].get("parentSpanId"))
        self.assertEqual(own["gateway", "server"]["parentSpanId"], weir["gateway", "server"]["spanId"])
        self.check_chain(weir, own)

    def test_weirs_spans_lie_below_a_callers(self):
        trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        for header in (f"traceparent: 00-{trace_id}-{span_id}-01", f"b3: {trace_id[:-1]}d-{span_id}-1",
                       f"uber-trace-id: {trace_id[:-1]}e:{span_id}:0:1"):
            weir, own = self.trace_of("/", header)
            self.assertEqual(weir["gateway", "server"]["parentSpanId"], span_id, header)
            self.check_chain(weir, own)

    def test_weirs_spans_lie_below_the_root_of_an_application(self):
        trace_id = self.ask("/root")["traceparent"].split("-")[1]
        weir = wait_until("weir's six spans", "weir traces",
                          lambda: (s := self.weir_spans(trace_id)) and len(s) >= 6 and s)
        own = wait_until("the applications' six spans", f"look at {RUN}/*.spans",
                         lambda: (s := self.mesh.application_spans(trace_id)) and len(s) >= 6 and s)
        self.assertEqual((len(weir), len(own)), (6, 6))  # the gateway's server span is of the other trace
        by = {(s["service"], s["kind"]): s for s in weir}
        own_by = {({"edge": "gateway"}.get(s["service"], s["service"]), s["kind"]): s for s in own}
        self.assertEqual(own_by["gateway", "server"]["parentSpanId"], "")
        self.check_chain(by, own_by)

    def test_every_sdk_follows_a_decision_not_to_sample(self):
        trace_id = "0af7651916cd43dd8448eb211c803190"
        seen = self.ask("/", f"traceparent: 00-{trace_id}-b7ad6b7169203331-00")
        self.assertEqual(seen["traceparent"].split("-")[1::2], [trace_id, "00"])
        self.assertEqual(seen["x-b3-sampled"], "0")
        # A later trace is whole: what the first one had made would be there by now.
        self.trace_of("/")
        self.assertEqual(self.mesh.application_spans(trace_id), [])
        self.assertNotIn(trace_id, self.mesh.spans_by_trace(1000))

    def test_each_format_that_came_is_answered(self):
        seen = self.ask("/")
        # The leaf is called by the Zipkin client: B3 in several headers, and W3C's.
        trace_id, span_id = seen["traceparent"].split("-")[1:3]
        self.assertEqual((seen["x-b3-traceid"], seen["x-b3-spanid"], seen["x-b3-sampled"]),
                         (trace_id, span_id, "1"))
        self.assertNotIn("x-b3-parentspanid", seen)
        self.assertNotIn("uber-trace-id", seen)
        self.assertNotIn("b3", seen)

    def configure(self, options, policy):
        """Gives the gateway's node another configuration, which takes effect while it runs."""
        node = self.mesh.nodes["node-a"]
        config = node.run / "agent.yaml"
        config.write_text(config.read_text().replace(
            f"    netns: {self.mesh.pods['gateway'].netns}\n",
            f"    netns: {self.mesh.pods['gateway'].netns}\n{options}").replace(
                "telemetry:\n", "telemetry:\n" + policy["telemetry"]))
        (self.mesh.documents / "trace.yaml").write_text(policy["document"])
        self.mesh.topology.processes["agent-node-a"].send_signal(signal.SIGHUP)

    def test_zz_traces_from_outside_are_restarted_and_slow_requests_kept(self):
        self.configure("  traces: {boundary: true}\n", {
            "telemetry": "  alwaysSample: {slowerThan: 1ms}\n",
            "document": "type: MeshTrace\nname: none\nmesh: default\nspec:\n  default:\n"
                        "    sampling: {random: 0}\n"})
        outside = ("0af7651916cd43dd8448eb211c803191", "b7ad6b7169203331")

        def restarted():
            seen = self.ask("/", f"traceparent: 00-{outside[0]}-{outside[1]}-01")["traceparent"].split("-")
            # B3, which the last application speaks, has no word for random ids.
            return seen[1] != outside[0] and seen[3] in ("00", "02") and seen[1]

        trace_id = wait_until("a trace of its own, not sampled", f"look at {RUN}/agent-node-a.log", restarted)
        # Every hop waits for three others: none of node-a's spans takes less than 1 ms.
        spans = wait_until("the gateway's span", "weir traces", lambda: [
            s for s in self.weir_spans(trace_id) if (s["service"], s["kind"]) == ("gateway", "server")])
        self.assertFalse(spans[0].get("parentSpanId"))
        self.assertEqual(spans[0]["attributes"]["links"], "-".join(outside))
        self.assertEqual(spans[0]["attributes"]["weir.sampled.by"], "slow")
        self.assertEqual(self.mesh.application_spans(trace_id), [])


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
    PACKAGES = pathlib.Path(subprocess.run([HERE / "sdk" / "install"], check=True, capture_output=True,
                                           text=True).stdout.strip())
    # A second run at the same time would sweep up the first one's nodes: it waits.
    lock = open(RUN.with_suffix(".lock"), "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unittest.main(argv=[sys.argv[0], *rest])

"""The CRM application without header forwarding: one trace per transaction all the same.

  sudo python3 tests/e2e/causality_e2e.py --bin build/dev/bin [-v] [CausalityTest.test_...]
"""
import argparse
import collections
import json
import os
import pathlib
import signal
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "scripts" / "demo"))

from crm_mesh import EDGES, SPANS_PER_REQUEST, CrmMesh  # noqa: E402
from topology import wait_until  # noqa: E402

PREFIX = "weir-causality"
RUN = pathlib.Path("/run/weir-causality")
BIN = None
# Until every hop has seen 64 requests with no other under way.
LEARNING = 80
INFERRED = {"turn", "sole"}


class CausalityTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mesh = CrmMesh(PREFIX, RUN, BIN / "weir-agent", BIN / "weir", forward_headers=False,
                           telemetry="  traceStoreSpans: 100000\n")
        cls.addClassCleanup(cls.mesh.topology.down)
        cls.mesh.topology.up()
        cls.mesh.write_configuration()
        # In this order: of a process that is older than its enrolment nothing is said for 30 s.
        cls.mesh.start_agents()
        cls.mesh.start_application()
        wait_until("an answer through the gateway", f"look at {RUN}/*.log",
                   lambda: cls.mesh.request("/customers/1")[0] == 200)
        assert cls.mesh.send_load(LEARNING, connections=1) == 0

    def traces(self):
        return self.mesh.spans_by_trace(1000)

    def settled(self, before, requests):
        """The traces since `before`, once no more spans come; there is one a request if all is well."""
        seen = None
        until = time.monotonic() + 30
        while time.monotonic() < until:
            now = {t: n for t, n in self.traces().items() if t not in before}
            if now == seen and sum(now.values()) >= requests * SPANS_PER_REQUEST:
                break
            seen = now
            time.sleep(0.5)
        return seen

    def spans_of(self, trace_id):
        return json.loads(self.mesh.weir_everywhere("traces", trace_id, "-o", "json"))["spans"]

    def edges_of(self, spans):
        """(edges between services, sources of the inferred parents); fails on a broken tree."""
        by_id = {span["spanId"]: span for span in spans}
        edges, sources = collections.Counter(), collections.Counter()
        for span in spans:
            parent = by_id.get(span.get("parentSpanId"))
            if span["kind"] == "server" and parent is None:
                self.assertEqual((span["service"], span["parentSpanId"]), ("gateway", ""))
            elif span["kind"] == "server":
                self.assertEqual(parent["kind"], "client")
                edges[(parent["service"], span["service"])] += 1
            else:
                self.assertEqual((parent["kind"], parent["service"]), ("server", span["service"]))
                sources[span["parentSource"]] += 1
        return edges, sources

    def check_load(self, requests, connections):
        before = self.traces()
        self.assertEqual(self.mesh.send_load(requests, connections), 0)
        traces = self.settled(before, requests)
        self.assertEqual(collections.Counter(traces.values()), {SPANS_PER_REQUEST: requests})
        sources = collections.Counter()
        for trace in traces:
            edges, how = self.edges_of(self.spans_of(trace))
            self.assertEqual(edges, {edge: 1 for edge in EDGES})
            sources += how
        self.assertLessEqual(set(sources), INFERRED)
        return sources

    def test_one_request_at_a_time_gives_one_trace_each(self):
        self.check_load(requests=60, connections=1)

    def test_sixteen_at_a_time_give_one_trace_each(self):
        sources = self.check_load(requests=160, connections=16)
        self.assertGreater(sources["turn"], 0)

    def test_the_map_says_how_the_parents_of_each_edge_were_known(self):
        self.assertEqual(self.mesh.send_load(20, connections=1), 0)
        found = {(e["source"], e["destination"]): e["parentSources"]
                 for e in json.loads(self.mesh.weir_everywhere("map", "-o", "json"))["edges"]
                 if int(e["requests"]) > 0}
        for source, destination in EDGES:
            sources = found[f"crm/{source}", f"crm/{destination}"]
            self.assertTrue(INFERRED & set(sources), (source, destination, sources))
            self.assertLessEqual(set(sources), INFERRED | {"none"})  # none: while it was learnt

    def test_status_and_check_say_that_parents_are_inferred(self):
        for node in self.mesh.nodes:
            out = self.mesh.weir(node, "check", "-o", "json", check=False)
            check = next(r for r in json.loads(out)["results"] if r["code"] == "WK110")
            self.assertEqual(check["outcome"], "ok", check)
            status = json.loads(self.mesh.weir(node, "status", "-o", "json"))
            features = {f["name"]: f for f in status["features"]}
            self.assertTrue(features["the parent program"]["available"])


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
    unittest.main(argv=[sys.argv[0], *rest])

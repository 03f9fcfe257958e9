"""The CRM application without header forwarding: one trace per transaction all the same, as a real
OpenTelemetry Collector got it.

  sudo python3 tests/e2e/causality_e2e.py --bin build/dev/bin --oracles build/oracles [-v] [CausalityTest.test_...]
"""
import argparse
import collections
import fcntl
import json
import os
import pathlib
import signal
import sys
import time
import unittest

import oracles

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "scripts" / "demo"))

from collected import (BACKEND, CLIENT, HOST, SERVER, TRACE, attributes, collected_spans,  # noqa: E402
                       drained, exported, start_collector)
from crm_mesh import COMMANDS, EDGES, LEARNING, SPANS_PER_REQUEST, CrmMesh  # noqa: E402
from topology import wait_until  # noqa: E402

PREFIX = "weir-causality"
RUN = pathlib.Path("/run/weir-causality")
BIN = ORACLES = None
INFERRED = {"turn", "sole"}


class CausalityTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mesh = CrmMesh(PREFIX, RUN, BIN / "weir-agent", BIN / "weir", forward_headers=False,
                           telemetry="  traceStoreSpans: 100000\n")
        cls.addClassCleanup(cls.mesh.topology.down)
        binary = oracles.collector(ORACLES)
        cls.mesh.topology.up()
        cls.mesh.write_configuration()
        (cls.mesh.documents / "traces.yaml").write_text(
            BACKEND.format(name="collector", host=HOST, port=4317, protocol="grpc")
            + TRACE.format(name="all", target="{kind: Mesh}", backend="collector").removesuffix("---\n"))
        cls.collected = RUN / "collected.jsonl"
        start_collector(cls.mesh, binary, cls.collected)
        # In this order: of a process that is older than its enrolment nothing is said for 30 s.
        cls.mesh.start_agents()
        cls.mesh.start_application()
        wait_until("an answer through the gateway", f"look at {RUN}/*.log",
                   lambda: cls.mesh.request("/customers/1")[0] == 200)
        assert cls.mesh.send_load(LEARNING, connections=1) == 0

    def collected_traces(self):
        """Trace id -> its (service, span) as the Collector has them."""
        traces = collections.defaultdict(list)
        for resource, span in collected_spans(self.collected):
            traces[span["traceId"]].append((resource["service.name"], span))
        return traces

    def settled(self, before, requests):
        """The traces since `before`, once all spans that the agents have are there and no more come."""
        def arrived():
            traces = self.collected_traces()
            count = sum(map(len, traces.values()))
            same, self.count = count == self.count, count
            time.sleep(0.5)
            new = {t: spans for t, spans in traces.items() if t not in before}
            whole = drained(self.mesh) and exported(self.mesh) == count
            return new if same and whole and sum(map(len, new.values())) >= requests * SPANS_PER_REQUEST else None
        self.count = 0
        return wait_until("all spans at the Collector", f"weir status; look at {RUN}/collector.log", arrived,
                          seconds=60)

    def called(self, span):
        """The service whose address the span's connection went to."""
        values = attributes(span)
        return next(name for name, pod in self.mesh.pods.items()
                    if values["network.peer.address"] in (pod.address, pod.address6))

    def hops_of(self, spans):
        """((caller, called) of CLIENT spans, the same of SERVER spans, sources of the parents of
        CLIENT spans); fails on a broken tree."""
        by_id = {span["spanId"]: (service, span) for service, span in spans}
        clients, servers, sources = collections.Counter(), collections.Counter(), collections.Counter()
        for service, span in spans:
            above, parent = by_id.get(span.get("parentSpanId"), (None, None))
            if span["kind"] == SERVER and parent is None:
                self.assertEqual((service, span.get("parentSpanId", "")), ("gateway", ""))
            elif span["kind"] == SERVER:
                self.assertEqual((parent["kind"], self.called(parent)), (CLIENT, service))
                servers[above, service] += 1
            else:
                self.assertEqual((above, parent and parent["kind"]), (service, SERVER))
                clients[service, self.called(span)] += 1
                sources[attributes(span)["weir.parent.source"]] += 1
                if (service, self.called(span)) in COMMANDS:
                    self.assertEqual((span["name"], attributes(span)["db.system.name"]), ("GET", "redis"))
        return clients, servers, sources

    def check_stores(self, traces):
        """The agents' own stores have the same spans with the same parents as the Collector."""
        for trace, spans in traces.items():
            stored = json.loads(self.mesh.weir_everywhere("traces", trace, "-o", "json"))["spans"]
            self.assertEqual({s["spanId"]: (s["service"], s["kind"], s.get("parentSpanId", "")) for s in stored},
                             {s["spanId"]: (service, {SERVER: "server", CLIENT: "client"}[s["kind"]],
                                            s.get("parentSpanId", "")) for service, s in spans})

    def check_load(self, requests, connections):
        before = self.settled({}, LEARNING)
        self.assertEqual(self.mesh.send_load(requests, connections), 0)
        traces = self.settled(before, requests)
        self.assertEqual(collections.Counter(map(len, traces.values())), {SPANS_PER_REQUEST: requests})
        clients, servers, sources = collections.Counter(), collections.Counter(), collections.Counter()
        for spans in traces.values():
            sent, served, how = self.hops_of(spans)
            self.assertEqual(sent, {edge: 1 for edge in EDGES | COMMANDS})
            self.assertEqual(served, {edge: 1 for edge in EDGES})
            clients += sent
            servers += served
            sources += how
        self.assertEqual(clients, dict.fromkeys(EDGES | COMMANDS, requests))
        self.assertEqual(servers, dict.fromkeys(EDGES, requests))
        self.assertLessEqual(set(sources), INFERRED)
        self.check_stores(traces)
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
        for source, destination in EDGES | COMMANDS:
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
    parser.add_argument("--oracles", required=True)
    options, rest = parser.parse_known_args()
    BIN, ORACLES = pathlib.Path(options.bin).resolve(), pathlib.Path(options.oracles).resolve()
    if os.getuid() != 0:
        if os.environ.get("WEIR_REQUIRE_ROOT") == "1":
            sys.exit("needs root")
        print("all tests skipped: needs root")
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A second run at the same time would sweep up the first one's nodes: it waits.
    lock = open(RUN.with_suffix(".lock"), "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unittest.main(argv=[sys.argv[0], *rest])

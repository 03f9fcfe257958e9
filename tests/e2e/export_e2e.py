"""What weir exports, judged by others: a real OpenTelemetry Collector by gRPC and by HTTP,
and the official generated Protobuf classes. Spans, log records and metrics; and access logs by
TCP. The quickstart's topology, two agents.

  sudo python3 tests/e2e/export_e2e.py --bin build/dev/bin --oracles build/oracles [-v]
"""
import argparse
import base64
import collections
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import unittest

import oracles

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "scripts" / "demo"))

from collected import (BACKEND, CLIENT, HOST, SERVER, TRACE, attributes, collected_spans, drained,  # noqa: E402
                       exported, flatten, start_collector, statuses, wait_for_ports, whole_lines)
from crm_mesh import COMMANDS, EDGES, LEARNING, SERVICES, SPANS_PER_REQUEST, CrmMesh  # noqa: E402
from topology import wait_until  # noqa: E402

PREFIX = "weir-export"
RUN = pathlib.Path("/run/weir-export")
BIN = ORACLES = None
REQUESTS = 40
# Whose spans go where; all others by gRPC.
BY_HTTP = {"crm-mobile", "crm-database"}
BY_SINK = {"crm-conductor"}

# Names and types of the semantic conventions (HTTP, RPC, database and connection spans; general
# attributes), and weir's own.
TEXTS = """
    client.address db.collection.name db.namespace db.operation.name db.query.summary
    db.query.text db.response.status_code db.system.name error.type http.request.method
    http.request.method_original http.route network.peer.address network.protocol.name
    network.protocol.version network.transport rpc.method rpc.method_original
    rpc.response.status_code rpc.system.name server.address tls.client.server_name url.full url.path
    url.query url.scheme url.template user_agent.original
    weir.destination weir.mtls weir.parent.source weir.reason weir.sampled.by weir.source
    weir.verdict""".split()
NUMBERS = """
    client.port db.operation.batch.size db.response.returned_rows http.request.resend_count
    http.response.status_code network.peer.port server.port
    weir.bytes.received weir.bytes.sent weir.connection.id weir.db.affected_rows""".split()
TYPES = {**dict.fromkeys(TEXTS, "stringValue"), **dict.fromkeys(NUMBERS, "intValue")}
RESOURCE_ATTRIBUTES = set("""
    host.id host.name host.arch k8s.container.name k8s.deployment.name k8s.namespace.name
    k8s.node.name k8s.pod.name k8s.pod.uid service.instance.id service.name service.namespace
    service.version""".split())
REQUIRED = {
    CLIENT: {"http.request.method", "server.address", "server.port", "url.full"},
    SERVER: {"http.request.method", "url.path", "url.scheme"},
}
REQUIRED_OF_COMMANDS = {"db.system.name", "db.operation.name", "db.namespace", "server.address", "server.port",
                        "network.peer.address", "network.peer.port"}

ACCESS_LOG = """type: MeshAccessLog
mesh: default
name: {name}
spec:
  targetRef: {target}
  rules:
  - default:
      backends:
      - type: Tcp
        tcp:
          address: "{host}:4320"
          format: {{type: Json, json: [{{key: trace, value: "%TRACE_ID%"}}, {{key: span, value: "%SPAN_ID%"}},
                                     {{key: code, value: "%RESPONSE_CODE%"}}]}}
  to:
  - targetRef: {{kind: Mesh}}
    default:
      backends:
      - type: OpenTelemetry
        openTelemetry:
          backendRef: {{kind: MeshOpenTelemetryBackend, labels: {{collector: {backend}}}}}
          attributes: [{{key: url.path, value: "%REQ(:PATH)%"}}, {{key: method, value: "%REQ(:METHOD)%"}}]
          body: {{kvlistValue: {{values: [{{key: code, value: {{stringValue: "%RESPONSE_CODE%"}}}},
                                       {{key: mesh, value: {{stringValue: "%KUMA_MESH%"}}}},
                                       {{key: fixed, value: {{arrayValue: {{values: [{{intValue: 7}}, {{boolValue: true}}]}}}}}}]}}}}
---
"""
METRIC = """type: MeshMetric
mesh: default
name: all
spec:
  default:
    sidecar: {{profiles: {{appendProfiles: [{{name: Basic}}], exclude: [{{type: Regex, match: ^process_}}],
                         include: [{{type: Exact, match: weir_tunnels}}]}}}}
    backends:
    - {{type: Prometheus, prometheus: {{port: 5670, path: /mesh-metrics}}}}
    - type: OpenTelemetry
      openTelemetry: {{refreshInterval: 1s, backendRef: {{kind: MeshOpenTelemetryBackend, labels: {{collector: by-grpc}}}}}}
    - type: OpenTelemetry
      openTelemetry: {{refreshInterval: 1s, endpoint: "{host}:4318"}}
    - type: OpenTelemetry
      openTelemetry: {{refreshInterval: 1s, backendRef: {{kind: MeshOpenTelemetryBackend, labels: {{collector: by-sink}}}}}}
---
"""
def value_of(value):
    """What an AnyValue in JSON says."""
    kind, content = next(iter(value.items()))
    if kind == "kvlistValue":
        return {one["key"]: value_of(one["value"]) for one in content["values"]}
    if kind == "arrayValue":
        return [value_of(one) for one in content["values"]]
    return int(content) if kind == "intValue" else content


def log_records(message, decode):
    """(resource attributes, record, its trace and span id in hex) of an OTLP message as JSON."""
    for resource in message.get("resourceLogs", []):
        for scope in resource["scopeLogs"]:
            for record in scope["logRecords"]:
                yield attributes(resource["resource"]), record, tuple(decode(record.get(k, "")) for k in ("traceId", "spanId"))


def metric_points(message):
    """(resource attributes, metric, data point, its attributes) of an OTLP message as JSON."""
    for resource in message.get("resourceMetrics", []):
        for scope in resource["scopeMetrics"]:
            for metric in scope["metrics"]:
                data = metric.get("sum") or metric.get("gauge") or metric.get("histogram")
                for point in data["dataPoints"]:
                    yield attributes(resource["resource"]), metric, point, attributes(point)


def hex_ids(span):
    """Ids of the generated classes' JSON, base64, as OTLP's JSON has them."""
    for key in ("traceId", "spanId", "parentSpanId"):
        if key in span:
            span[key] = base64.b64decode(span[key]).hex()
    span["kind"] = {"SPAN_KIND_SERVER": SERVER, "SPAN_KIND_CLIENT": CLIENT}[span["kind"]]
    return span


class ExportTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.collector, cls.python = oracles.make(ORACLES)
        cls.mesh = CrmMesh(PREFIX, RUN, BIN / "weir-agent", BIN / "weir")
        cls.addClassCleanup(cls.mesh.topology.down)
        cls.mesh.topology.up()
        cls.mesh.write_configuration()
        cls.write_documents()
        cls.collected = RUN / "collected.jsonl"
        cls.sunk = RUN / "sunk.jsonl"
        cls.sunk.touch()
        start_collector(cls.mesh, cls.collector, cls.collected)
        node = cls.mesh.nodes["node-a"]
        cls.mesh.topology.start("sink", node.netns, node.cgroup / "agent",
                                [cls.python, HERE / "otlp_sink.py", "4319", cls.sunk])
        cls.lines = RUN / "lines.jsonl"
        cls.lines.touch()
        cls.mesh.topology.start("lines", node.netns, node.cgroup / "agent",
                                [sys.executable, HERE / "line_sink.py", "4320", cls.lines])
        wait_for_ports(cls.mesh, "4319", "4320")
        cls.mesh.start_agents()
        cls.mesh.start_application()
        wait_until("an answer through the gateway", f"look at {RUN}/*.log",
                   lambda: cls.mesh.request("/customers/1")[0] == 200)
        assert cls.mesh.send_load(LEARNING, connections=1) == 0
        # What came while the services began to answer and whose commands are, was learnt, is left out.
        wait_until("the first spans", "weir status",
                   lambda: drained(cls.mesh) and exported(cls.mesh) == len(cls.all_spans()) > 0)
        cls.ignored = {span["traceId"] for _, span, _ in cls.all_spans()}

    @classmethod
    def write_documents(cls):
        text = "".join(BACKEND.format(name=name, host=HOST, port=port, protocol=protocol)
                       for name, port, protocol in (("by-grpc", 4317, "grpc"), ("by-http", 4318, "http"),
                                                    ("by-sink", 4319, "http")))
        text += TRACE.format(name="all", target="{kind: Mesh}", backend="by-grpc").replace(
            "  default:\n", "  default:\n    connectionSpans: true\n")
        for backend, services in (("by-http", BY_HTTP), ("by-sink", BY_SINK)):
            for service in services:
                text += TRACE.format(name=service, backend=backend,
                                     target=f"{{kind: Dataplane, labels: {{app: {service}}}}}")
        (cls.mesh.documents / "traces.yaml").write_text(text.removesuffix("---\n"))
        text = ACCESS_LOG.format(name="all", target="{kind: Mesh}", backend="by-grpc", host=HOST)
        for backend, services in (("by-http", BY_HTTP), ("by-sink", BY_SINK)):
            for service in services:
                # The inbound rules of `all` count for it too: here only where calls are logged.
                one = ACCESS_LOG.format(name=service, backend=backend, host=HOST,
                                        target=f"{{kind: Dataplane, labels: {{app: {service}}}}}")
                text += re.sub(r"  rules:.*?(?=  to:)", "", one, flags=re.S)
        (cls.mesh.documents / "logs.yaml").write_text(text + METRIC.format(host=HOST).removesuffix("---\n"))

    @classmethod
    def all_spans(cls):
        """What arrived anywhere: (resource, span, where)."""
        found = [(resource, span, "collector") for resource, span in collected_spans(cls.collected)]
        for line in whole_lines(cls.sunk):
            found += [(resource, hex_ids(span), "sink") for resource, span in
                      flatten(json.loads(line)["message"])]
        return found

    @classmethod
    def messages(cls, suffix):
        """What the Collector wrote of logs or metrics, and the sink took of them."""
        path = cls.collected.with_name(cls.collected.name + "." + suffix)
        found = [(json.loads(line), "collector") for line in whole_lines(path)]
        return found + [(line["message"], "sink") for line in map(json.loads, whole_lines(cls.sunk))
                        if line["path"] == f"/v1/{suffix}"]

    def logs(self):
        """What log records arrived anywhere: (resource, record, ids)."""
        return [one for message, where in self.messages("logs")
                for one in log_records(message, (lambda i: base64.b64decode(i).hex()) if where == "sink" else str)]

    def spans(self):
        return [one for one in self.all_spans() if one[1]["traceId"] not in self.ignored]

    def load(self, requests):
        """Sends requests; gives how many spans there must be when all have arrived."""
        wait_until("an empty queue", "weir status", lambda: drained(self.mesh))
        before = len(self.spans())
        self.assertEqual(self.mesh.send_load(requests), 0)
        expected = before + requests * SPANS_PER_REQUEST
        wait_until("all spans at the collectors", f"weir status; {RUN}/collector.log",
                   lambda: len(self.spans()) >= expected, seconds=60)
        return expected

    def test_1_each_hop_has_as_many_client_and_server_spans_as_requests(self):
        expected = self.load(REQUESTS)
        self.assertEqual(len(self.spans()), expected)
        by_id = {(span["traceId"], span["spanId"]): (resource, span) for resource, span, _ in self.spans()}
        hops, roots = collections.Counter(), 0
        traces = collections.Counter(span["traceId"] for _, span, _ in self.spans())
        for resource, span, _ in self.spans():
            if not span.get("parentSpanId"):
                self.assertEqual((resource["service.name"], span["kind"]), ("gateway", SERVER))
                roots += 1
                continue
            parent, above = by_id[span["traceId"], span["parentSpanId"]]
            if span["kind"] == SERVER:
                self.assertEqual(above["kind"], CLIENT)
                hops[parent["service.name"], resource["service.name"]] += 1
            else:
                self.assertEqual((above["kind"], parent["service.name"]), (SERVER, resource["service.name"]))
                hops[resource["service.name"]] += 1
        self.assertGreaterEqual(roots, REQUESTS)
        self.assertEqual(set(traces.values()), {SPANS_PER_REQUEST})
        self.assertEqual(len(traces), roots)
        self.assertEqual({hop: hops[hop] for hop in EDGES}, dict.fromkeys(EDGES, roots))
        clients = collections.Counter(source for source, _ in EDGES | COMMANDS)
        self.assertEqual({name: hops[name] for name in clients}, {name: roots * n for name, n in clients.items()})

    def test_2_each_workload_has_its_backend(self):
        sinks = {resource["service.name"] for resource, _, where in self.spans() if where == "sink"}
        self.assertEqual(sinks, BY_SINK)
        for status in statuses(self.mesh):
            here = {e["name"].removeprefix("MeshOpenTelemetryBackend/"): e for e in status["exporters"]
                    if e["signal"] == "traces"}
            for name, exporter in here.items():
                self.assertEqual(exporter["kind"], "otlp/grpc" if name == "by-grpc" else "otlp/http")
                self.assertEqual(exporter["state"], "ok", exporter)
                self.assertGreater(int(exporter["exported"]), 0)
                self.assertEqual(int(exporter.get("queued", 0)), 0)
                self.assertEqual(exporter.get("dropped", []), [])
        self.assertEqual(exported(self.mesh), len(self.all_spans()))

    def check_types(self, span):
        """Each attribute is known, once, with its type."""
        found = [(one["key"], next(iter(one["value"]))) for one in span["attributes"]]
        self.assertEqual(len(dict(found)), len(found))
        self.assertEqual(dict(found), {name: TYPES.get(name) for name, _ in found})

    def test_3_names_and_types_are_those_of_the_conventions(self):
        for resource, span, _ in self.spans():
            found = attributes(span)
            self.check_types(span)
            command = "db.system.name" in found
            self.assertLessEqual(REQUIRED_OF_COMMANDS if command else REQUIRED[span["kind"]], set(found))
            self.assertLessEqual(set(resource), RESOURCE_ATTRIBUTES)
            self.assertIn(resource["service.name"], SERVICES)
            self.assertEqual(span["name"], found["db.query.summary" if command else "http.request.method"])
            self.assertNotIn("status", {k: v for k, v in span.items() if v})
            self.assertLess(int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"]))

    def test_3_events_split_the_time_of_a_span(self):
        names = ["weir.tunnel.ready", "weir.upstream.connected", "weir.response.first_byte"]
        seen = set()
        for _, span, _ in self.all_spans():  # the first requests of all are those that waited
            events = [(int(event["timeUnixNano"]), event["name"]) for event in span.get("events", [])]
            times = [time for time, _ in events]
            self.assertEqual(times, sorted(times))
            self.assertTrue(all(int(span["startTimeUnixNano"]) <= time <= int(span["endTimeUnixNano"])
                                for time in times), span)
            self.assertEqual([name for _, name in events], [n for n in names if n in dict(map(reversed, events))])
            self.assertIn(names[2], [name for _, name in events])
            seen.update((span["kind"], name) for _, name in events)
        self.assertLessEqual({(CLIENT, name) for name in names}, seen)
        self.assertNotIn((SERVER, names[0]), seen)

    def test_4_flows_in_otlps_form_are_log_records_by_the_official_classes(self):
        check = ("import sys\nfrom google.protobuf import json_format\n"
                 "from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest\n"
                 "for line in sys.stdin:\n"
                 "    request = json_format.Parse(line, ExportLogsServiceRequest())\n"  # knows every member
                 "    record, = request.resource_logs[0].scope_logs[0].log_records\n"
                 "    print(record.time_unix_nano, record.severity_number, len(record.attributes))\n")
        lines = self.mesh.weir_everywhere("flows", "-o", "otlp", "--last", "30")
        done = subprocess.run([self.python, "-c", check], input=lines, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        records = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
        self.assertEqual(len(records), 30)
        for time, severity, count in records:
            self.assertGreater(time, 1_700_000_000_000_000_000)
            self.assertIn(severity, (9, 13, 17))
            self.assertGreater(count, 10)

    def test_4_the_official_classes_know_every_field(self):
        lines = [json.loads(line) for line in whole_lines(self.sunk)]
        self.assertEqual({line["path"] for line in lines}, {"/v1/traces", "/v1/logs", "/v1/metrics"})
        for line in lines:
            self.assertNotIn("error", line)
            self.assertEqual(line["type"], "application/x-protobuf")
            self.assertEqual(line["unknown"], [])
            self.assertEqual(line["canonical"], line["length"])  # nothing twice, nothing left out
            for trace, span, parent in line["ids"]:
                self.assertIn((trace, span), {(16, 8)} if line["path"] == "/v1/traces" else {(16, 8), (0, 0)})
                self.assertIn(parent, (0, 8))

    def test_5_a_collector_that_is_away_costs_no_request_and_no_span(self):
        wait_until("an empty queue", "weir status", lambda: drained(self.mesh))
        before = len(self.spans())
        self.mesh.topology.stop("collector")
        self.assertEqual(self.mesh.send_load(REQUESTS), 0)
        wait_until("failing exporters", "weir status", lambda: any(
            e["state"] == "failing" and e.get("lastError") and int(e.get("queued", 0)) > 0
            for status in statuses(self.mesh) for e in status["exporters"]))
        for status in statuses(self.mesh):
            for queue in status["queues"]:
                self.assertEqual(int(queue.get("generated", 0)), sum(
                    int(queue.get(k, 0)) for k in ("exported", "dropped", "queued")), queue)
        start_collector(self.mesh, self.collector, self.collected)
        expected = before + REQUESTS * SPANS_PER_REQUEST
        wait_until("all spans at the collectors", "weir status", lambda: len(self.spans()) >= expected,
                   seconds=60)
        wait_until("an empty queue", "weir status", lambda: drained(self.mesh))
        self.assertEqual(len(self.spans()), expected)

    def test_6_a_connection_that_is_not_looked_into_has_its_attributes(self):
        pod = self.mesh.pods["gateway"]
        subprocess.run(
            ["nsenter", f"--net=/run/netns/{pod.netns}", "openssl", "s_client", "-servername", "shop.test", "-connect",
             f"{self.mesh.pods['crm-mobile'].address}:8080"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30,
            check=False, preexec_fn=lambda: (pod.cgroup / "cgroup.procs").write_text(str(os.getpid())))
        resource, span = wait_until("the connection's span", "weir traces", lambda: next(
            ((resource, span) for resource, span, _ in self.spans()
             if "tls.client.server_name" in attributes(span)), None))
        self.check_types(span)
        found = attributes(span)
        self.assertEqual((resource["service.name"], span["name"], span["kind"]), ("gateway", "connection", CLIENT))
        self.assertEqual([found[name] for name in ("tls.client.server_name", "network.transport", "network.protocol.name",
                                                   "server.address", "network.peer.address")],
                         ["shop.test", "tcp", "tls"] + 2 * [self.mesh.pods["crm-mobile"].address])
        self.assertGreater(min(int(found["weir.bytes.sent"]), int(found["weir.bytes.received"])), 0)

    def test_6_a_transaction_and_an_error_of_redis_have_their_attributes(self):
        pod = self.mesh.pods["crm-database"]
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{pod.netns}", "redis-cli", "-h", self.mesh.pods["redis"].address],
            input="MULTI\nSET a 1\nSET b 2\nEXEC\nLPUSH a 3\n", capture_output=True, text=True, timeout=30, check=False,
            preexec_fn=lambda: (pod.cgroup / "cgroup.procs").write_text(str(os.getpid())))
        self.assertIn("WRONGTYPE", done.stdout)

        def commands():
            found = [(attributes(span), span) for _, span, _ in self.spans()]
            return {a["db.operation.name"]: (a, span) for a, span in found
                    if "db.system.name" in a and a["db.operation.name"] in ("MULTI SET", "LPUSH")}
        found = wait_until("the commands' spans", "weir traces", lambda: len(c := commands()) == 2 and c)
        for _, span in found.values():
            self.check_types(span)
        self.assertEqual(int(found["MULTI SET"][0]["db.operation.batch.size"]), 2)
        self.assertEqual([found["LPUSH"][0][name] for name in ("db.response.status_code", "error.type")], ["WRONGTYPE"] * 2)
        self.assertIn(found["LPUSH"][1]["status"]["code"], (2, "STATUS_CODE_ERROR"))

    def test_6_each_client_span_has_its_log_record(self):
        wait_until("an empty queue", "weir status", lambda: drained(self.mesh))
        clients = {(span["traceId"], span["spanId"]): (resource, attributes(span))
                   for resource, span, _ in self.spans() if span["kind"] == CLIENT}
        self.assertGreater(len(clients), REQUESTS)
        wait_until("all log records", "weir status", lambda: len([
            ids for _, _, ids in self.logs() if ids in clients]) >= len(clients), seconds=30)
        found = collections.Counter(ids for _, _, ids in self.logs() if ids[0] and ids[0] not in self.ignored)
        self.assertEqual(set(found), set(clients))
        self.assertEqual(set(found.values()), {1})
        for resource, record, ids in self.logs():
            if ids not in clients:
                continue
            of_span, span = clients[ids]
            self.assertEqual(resource, of_span)
            values = attributes(record)
            if "http.request.method" not in span:
                self.assertEqual(value_of(record["body"])["mesh"], "default")
                continue
            self.assertEqual(values["method"], span["http.request.method"])
            self.assertTrue(span["url.full"].split("?")[0].endswith(values["url.path"]), (span, values))
            self.assertEqual(value_of(record["body"]), {
                "code": str(span["http.response.status_code"]), "mesh": "default", "fixed": [7, True]})
            self.assertEqual(record["severityText"], "INFO")

    def test_7_each_server_span_has_its_line_by_tcp(self):
        servers = {(span["traceId"], span["spanId"]): str(attributes(span)["http.response.status_code"])
                   for _, span, _ in self.spans() if span["kind"] == SERVER}

        def lines():
            found = [json.loads(line) for line in whole_lines(self.lines)]
            return [one for one in found if one["trace"] and one["trace"] not in self.ignored]
        wait_until("all lines", "weir status", lambda: len(lines()) >= len(servers), seconds=30)
        self.assertEqual({(one["trace"], one["span"]): str(one["code"]) for one in lines()}, servers)
        self.assertEqual(len(lines()), len(servers))
        for status in statuses(self.mesh):
            logs = next(queue for queue in status["queues"] if queue["name"] == "logs")
            self.assertEqual(int(logs.get("dropped", 0)), 0)
            self.assertEqual(int(logs["generated"]), int(logs["exported"]) + int(logs.get("queued", 0)))

    def test_8_metrics_arrive_whole_by_every_way(self):
        counts = {}  # of requests that ended, by node

        def all_there():
            for node, at in self.mesh.nodes.items():
                text = self.mesh.topology.in_netns(at.netns, "curl", "-s", "http://127.0.0.1:5670/mesh-metrics")
                counts[node] = sum(float(n) for n in re.findall(r"^weir_requests_total\{.*\} (\S+)$", text, re.M))
            return min(counts.values()) > 0
        wait_until("metrics of both nodes", "weir status", all_there)
        ways = collections.defaultdict(dict)  # where -> node -> the newest sum
        exemplars, names = set(), set()

        def collect():
            for message, where in self.messages("metrics"):
                sums = collections.Counter()
                for resource, metric, point, labels in metric_points(message):
                    self.assertEqual(resource["service.name"], "weir-agent")
                    names.add(metric["name"])
                    if metric["name"] == "weir_requests":
                        self.assertTrue(metric["sum"]["isMonotonic"])
                        self.assertIn(metric["sum"]["aggregationTemporality"], (2, "AGGREGATION_TEMPORALITY_CUMULATIVE"))
                        self.assertLessEqual({"direction", "source", "destination", "code"}, set(labels))
                        sums[resource["service.instance.id"], point["timeUnixNano"]] += point["asDouble"]
                    for exemplar in point.get("exemplars", []):
                        exemplars.add(exemplar["traceId"] if where == "collector" else base64.b64decode(exemplar["traceId"]).hex())
                    if "histogram" in metric:
                        self.assertEqual(sum(int(n) for n in point["bucketCounts"]), int(point.get("count", 0)))
                        self.assertEqual(len(point["bucketCounts"]), len(point["explicitBounds"]) + 1)
                for (node, _), value in sums.items():
                    ways[where][node] = max(value, ways[where].get(node, 0))
            return all(ways[where].get(node, 0) >= counts[node] for where in ("collector", "sink") for node in counts)
        wait_until("the same counts by OTLP", "weir status", collect, seconds=30)
        self.assertEqual(ways, {"collector": counts, "sink": counts})
        self.assertTrue(exemplars)
        self.assertLessEqual(exemplars, {span["traceId"] for _, span, _ in self.all_spans()})
        self.assertIn("weir_tunnels", names)  # included
        self.assertFalse([name for name in names if name.startswith("process_")])  # excluded
        self.assertNotIn("weir_tunnel_bytes", names)  # not in the profile

    def test_8_exporters_leave_the_number_of_series_small(self):
        for node, at in self.mesh.nodes.items():
            text = self.mesh.topology.in_netns(at.netns, "curl", "-s", "--unix-socket", str(at.socket), "http://weir/metrics")
            own = [line for line in text.splitlines() if not line.startswith("#") and 'source="' not in line]
            exporters = set(re.findall(r'exporter="[^"]*",signal="[^"]*"', text))
            print(f"{node}: {len(own)} series with {len(exporters)} exporters", file=sys.stderr)
            self.assertGreater(len(exporters), 5)
            self.assertGreater(len(own), 100)
            self.assertLess(len(own), 300)

    def test_9_a_port_of_metrics_that_is_taken_stops_nothing_else(self):
        document = self.mesh.documents / "logs.yaml"
        text = document.read_text()
        document.write_text(text.replace("port: 5670", "port: 4320"))
        node = self.mesh.nodes["node-a"]
        try:
            wait_until("the problem", "weir status", lambda: 'weir_metrics_port_open{port="4320"} 0' in
                       self.mesh.topology.in_netns(node.netns, "curl", "-s", "--unix-socket", str(node.socket), "http://weir/metrics"))
            self.assertIn("serve metrics on port 4320", self.mesh.weir("node-a", "check", "-o", "json", check=False))
            self.assertEqual(self.mesh.request("/customers/1")[0], 200)
        finally:
            document.write_text(text)
        wait_until("the port again", "weir status", lambda: "weir_requests" in self.mesh.topology.in_netns(
            node.netns, "curl", "-s", "http://127.0.0.1:5670/mesh-metrics", check=False))


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

"""The real OpenTelemetry Collector beside a mesh: how it is started on node-a, the documents that
send spans to it, and what it wrote."""
import json
import pathlib

from topology import wait_until

HOST = "198.18.0.1"  # node-a's address on the link between the nodes
SERVER, CLIENT = 2, 3  # SpanKind of OTLP

BACKEND = """type: MeshOpenTelemetryBackend
mesh: default
name: {name}
labels: {{collector: {name}}}
spec:
  endpoint: {{address: {host}, port: {port}}}
  protocol: {protocol}
---
"""
TRACE = """type: MeshTrace
mesh: default
name: {name}
spec:
  targetRef: {target}
  default:
    backends:
    - type: OpenTelemetry
      openTelemetry:
        backendRef: {{kind: MeshOpenTelemetryBackend, labels: {{collector: {backend}}}}}
---
"""
CONFIG = """receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "0.0.0.0:4317"}}
      http: {{endpoint: "0.0.0.0:4318"}}
exporters:
  file: {{path: {path}, append: true, flush_interval: 100ms}}
  file/logs: {{path: {path}.logs, append: true, flush_interval: 100ms}}
  file/metrics: {{path: {path}.metrics, append: true, flush_interval: 100ms}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
    logs: {{receivers: [otlp], exporters: [file/logs]}}
    metrics: {{receivers: [otlp], exporters: [file/metrics]}}
"""


def wait_for_ports(mesh, *ports):
    def listens():
        listeners = mesh.topology.in_netns(mesh.nodes["node-a"].netns, "ss", "-Hltn", check=False)
        return all(f":{port} " in listeners for port in ports)
    wait_until(f"collectors listen on {ports}", f"look at {mesh.topology.run}/collector.log and sink.log", listens)


def start_collector(mesh, binary, path):
    """Starts it on node-a; it writes spans to `path`, and logs and metrics beside it."""
    config = pathlib.Path(mesh.topology.run) / "collector.yaml"
    config.write_text(CONFIG.format(path=path))
    node = mesh.nodes["node-a"]
    mesh.topology.start("collector", node.netns, node.cgroup / "agent", [binary, "--config", f"file:{config}"])
    wait_for_ports(mesh, "4317", "4318")


def attributes(entity):
    return {one["key"]: next(iter(one["value"].values())) for one in entity.get("attributes", [])}


def flatten(message):
    """(resource attributes, span) of each span in an OTLP message as JSON."""
    for resource in message.get("resourceSpans", []):
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield attributes(resource["resource"]), span


def whole_lines(path):
    """The lines of a file that somebody may be writing to."""
    return path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []


def collected_spans(path):
    """(resource attributes, span) of all that the Collector has written."""
    return [one for line in whole_lines(path) for one in flatten(json.loads(line))]


def statuses(mesh):
    return [json.loads(mesh.weir(node, "status", "-o", "json")) for node in mesh.nodes]


def drained(mesh):
    """Whether all spans, flows and log records have been exported."""
    return all(int(queue.get("queued", 0)) == 0 for status in statuses(mesh)
               for queue in status["queues"] if queue["name"] in ("spans", "flows", "logs"))


def exported(mesh):
    """How many spans the agents say that they have exported."""
    return sum(int(e.get("exported", 0)) for status in statuses(mesh) for e in status["exporters"]
               if e["signal"] == "traces")

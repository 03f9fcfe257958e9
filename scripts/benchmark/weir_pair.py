"""weir between the two sides: one agent per side as on two nodes, the client's and the
server's namespace enrolled as pods, redirected by eBPF."""
import json
import os
import subprocess
import time

from bed import Http2Application, Pair, sh
from peers import start_collector


class WeirTcpPair(Pair):
    name = "weir-tcp"
    what = "weir, port declared tcp"
    hint = "tcp"
    server_ports = "32768 60999"  # the kernel's default: the ports outside of it are the legs'
    ca_prefix = ()  # words before the commands that make certificates
    agent = None
    cli = None

    def start_proxies(self):
        self.bpffs = {side: self.run.parent / "bpf" / f"{self.name}-{side}" for side in ("client", "server")}
        sh(*self.ca_prefix, self.cli, "ca", "init", "--trust-domain", "bench.test", "--dir", self.run / "ca")
        documents = self.run / "mesh.d"
        documents.mkdir()
        for side, ip in (("client", self.client_ip), ("server", self.server_ip)):
            (documents / f"{side}.yaml").write_text(
                f"type: Dataplane\nmesh: default\nname: {side}\nlabels:\n  weir.io/node: {side}\n"
                f"networking:\n  address: {ip}\n  inbound:\n  - port: 8080\n    tags:\n"
                f"      kuma.io/service: {side}\n      kuma.io/protocol: {self.hint}\n")
        (documents / "permissions.yaml").write_text(
            "type: MeshTrafficPermission\nname: everybody\nmesh: default\nspec:\n  rules:\n  - default:\n"
            "      allow:\n      - spiffeID: {type: Prefix, value: \"spiffe://bench.test/\"}\n")
        self.write_documents(documents)
        for side, ns in (("client", self.client_ns), ("server", self.server_ns)):
            sh(*self.ca_prefix, self.cli, "ca", "node", side, "--dir", self.run / "ca")
            self.write_agent(side, ns, documents)
            self.proxies.append(self.start(side, self.node_namespace(side), f"agent-{side}",
                                           [self.agent, "--config", self.run / f"agent-{side}.yaml"]))
        for side in ("client", "server"):
            self.wait_agent(side)

    def node_namespace(self, side):
        """The agent's own namespace: on a node it is not the pod's either."""
        name = f"{self.client_ns}-{side}"
        if not os.path.exists(f"/run/netns/{name}"):
            sh("ip", "netns", "add", name)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def write_documents(self, documents):
        """Further documents of a variant."""

    def write_agent(self, side, ns, documents):
        ca = self.run / "ca"
        (self.run / f"agent-{side}.yaml").write_text(
            f"node: {side}\ntrustDomain: bench.test\nmeshRanges: [198.18.{self.number}.0/24]\n"
            f"documents: {documents}\ncgroupRoot: {self.cgroup / side}\nbpffs: {self.bpffs[side]}\n"
            f"admin:\n  socket: {self.run}/{side}.sock\nstateDirectory: {self.run}/state-{side}\n"
            f"workers: 1\nca:\n  rootBundle: {ca}/root.pem\n  certificate: {ca}/nodes/{side}.pem\n"
            f"  key: {ca}/nodes/{side}.key\n"
            f"workloads:\n- name: {side}\n  match:\n    netns: {ns}\n  onAgentDown: open\n")

    def wait_agent(self, side):
        deadline = time.monotonic() + 20
        while subprocess.run(["curl", "-sf", "--unix-socket", self.run / f"{side}.sock", "http://weir/ready"],
                             capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the {side}'s agent is not ready; its log: "
                                   f"{(self.run / f'agent-{side}.log').read_text()[-2000:]}")
            time.sleep(0.1)


    def failures(self):
        found = {}
        for side in ("client", "server"):
            text = sh("curl", "-sf", "--unix-socket", self.run / f"{side}.sock", "http://weir/metrics")
            for line in text.splitlines():
                name, _, value = line.rpartition(" ")
                if any(word in name for word in ("_failures_total", "_retries_total", "_violations_total", "_pauses_total",
                                                 "kernel_events_total", "timeouts_total")) and float(value) > 0:
                    found[f"{side} {name.removeprefix('weir_')}"] = float(value)
        return found


class WeirHttpPair(WeirTcpPair):
    name = "weir-http"
    what = "weir, HTTP, every request a span on both sides"
    hint = "http"
    sampling = 100

    def start_proxies(self):
        for side in ("client", "server"):
            start_collector(self, side, self.node_namespace(side))
        super().start_proxies()

    def write_documents(self, documents):
        (documents / "trace.yaml").write_text(
            "type: MeshOpenTelemetryBackend\nmesh: default\nname: collector\nlabels:\n  app: collector\n"
            "spec:\n  endpoint:\n    address: 127.0.0.1\n    port: 4318\n  protocol: http\n---\n"
            f"type: MeshTrace\nmesh: default\nname: all\nspec:\n  default:\n    sampling:\n"
            f"      overall: {self.sampling}\n    backends:\n"
            "    - type: OpenTelemetry\n      openTelemetry:\n        backendRef:\n"
            "          kind: MeshOpenTelemetryBackend\n          labels:\n            app: collector\n")

    def exporters(self, side):
        status = json.loads(sh(self.cli, "--socket", self.run / f"{side}.sock", "status", "-o", "json"))
        return status.get("exporters", [])

    def spans_offered(self):
        return {side: sum(int(e.get(count, 0)) for e in self.exporters(side) for count in ("exported", "queued"))
                for side in ("client", "server")}

    def spans_missing(self, before, requests):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            now = self.spans_offered()
            missing = [abs(requests * self.sampling // 100 - (now[side] - before[side])) for side in now]
            if not any(missing):
                return 0
            time.sleep(0.1)
        return max(missing)


class WeirUntracedPair(WeirHttpPair):
    name = "weir-nospans"
    what = "weir, HTTP, no request a span"
    sampling = 0


class WeirHttp2Pair(Http2Application, WeirHttpPair):
    name = "weir-http2"
    what = "weir, HTTP/2, every request a span on both sides"
    hint = "http2"

"""The CRM application on two nodes, and the mesh around it: who lives where, the agents'
configuration, and how each part is started. Used by the quickstart and the e2e tests."""
import json
import pathlib
import subprocess

from topology import StepFailed, Topology, sh, wait_until

HERE = pathlib.Path(__file__).resolve().parent
TRUST_DOMAIN = "crm.test"
CUSTOMERS = {1: "Ada Lovelace", 2: "Grace Hopper", 3: "Edsger Dijkstra"}
# Text that must never be seen on the wire between the nodes.
SECRETS = [name.encode() for name in CUSTOMERS.values()] + [b"traceparent", b"HTTP/1.1", b"inside-sales"]

# service -> (node, hint for kuma.io/protocol, port)
SERVICES = {
    "gateway": ("node-a", "http", 8080),
    "crm-mobile": ("node-a", "http", 8080),
    "crm-conductor": ("node-b", "http", 8080),
    "crm-salesforce": ("node-a", "http", 8080),
    "crm-database": ("node-b", "http", 8080),
    "redis": ("node-a", "redis", 6379),
}
# The calls that one request from outside makes, as the application's code has them.
EDGES = {
    ("gateway", "crm-mobile"), ("crm-mobile", "crm-conductor"),
    ("crm-conductor", "crm-salesforce"), ("crm-conductor", "crm-database"),
}

# The command that it sends to a database: a CLIENT span where it leaves, none where it arrives.
COMMANDS = {("crm-database", "redis")}

# Who may call whom: what the application needs, and nothing else.
PERMITTED = EDGES | COMMANDS

# One where the request arrives from outside, two for each edge, one for each command.
SPANS_PER_REQUEST = 1 + 2 * len(EDGES) + len(COMMANDS)

# A command has no header: whose it is, is known once every hop has seen 64 requests with no other
# under way, of processes that are younger than their enrolment.
LEARNING = 80


def everybody_may(trust_domain):
    """A document that lets every workload of the mesh call every other."""
    return ("type: MeshTrafficPermission\nname: everybody\nmesh: default\nspec:\n  rules:\n"
            "  - default:\n      allow:\n      - spiffeID:\n          type: Prefix\n"
            f"          value: \"spiffe://{trust_domain}/\"\n")


class CrmMesh:
    def __init__(self, prefix, run, agent, cli, services=None, forward_headers=True, telemetry=""):
        """Without `forward_headers` no service passes the trace headers on. `telemetry`: further
        lines of that part of agent.yaml."""
        self.services = services or SERVICES  # of the CRM application, unless others are given
        self.cli = pathlib.Path(cli)
        self.forward_headers = forward_headers
        self.telemetry = telemetry
        self.topology = Topology(prefix, run, agent)
        for node in ("node-a", "node-b"):
            self.topology.add_node(node)
        self.pods = {name: self.topology.add_pod(name, self.topology.nodes[node])
                     for name, (node, _, _) in self.services.items()}
        self.client = self.topology.nodes["node-a"]

    @property
    def nodes(self):
        return self.topology.nodes

    @property
    def documents(self):
        return self.topology.run / "mesh.d"

    @property
    def gateway_url(self):
        return f"http://{self.pods['gateway'].address}:8080"

    def weir(self, node, *words, check=True):
        return sh(self.cli, "--socket", self.nodes[node].socket, *words, check=check)

    def weir_everywhere(self, *words, check=True):
        """The same of both agents at once, joined by the command."""
        sockets = [word for node in self.nodes.values() for word in ("--socket", node.socket)]
        return sh(self.cli, *sockets, *words, check=check)

    def spans_by_trace(self, limit=20):
        """Trace id -> how many spans the agents have of it together, newest first."""
        counts = {}
        for node in self.nodes:
            listed = json.loads(self.weir(node, "traces", "-o", "json", "--limit", limit))
            for trace in listed["traces"]:
                counts[trace["traceId"]] = counts.get(trace["traceId"], 0) + trace["spanCount"]
        return counts

    def write_configuration(self):
        """Certificates, the mesh's documents and one agent.yaml per node."""
        run = self.topology.run
        sh(self.cli, "ca", "init", "--trust-domain", TRUST_DOMAIN, "--dir", run / "ca")
        self.documents.mkdir()
        (self.documents / "gateway-tls.yaml").write_text(self._permissive_gateway())
        (self.documents / "permissions.yaml").write_text(self._permissions())
        for name, pod in self.pods.items():
            _, hint, port = self.services[name]
            (self.documents / f"{name}.yaml").write_text(self._dataplane(name, pod, hint, port))
        for node in self.nodes.values():
            sh(self.cli, "ca", "node", node.name, "--dir", run / "ca")
            (node.run / "agent.yaml").write_text(self._agent_config(node))

    def workload_options(self, name):
        """More lines of a workload in agent.yaml; other applications than the CRM have some."""
        return ""

    def _permissive_gateway(self):
        return ("type: MeshTLS\nname: gateway-in-the-clear\nmesh: default\nspec:\n"
                "  targetRef:\n    kind: Dataplane\n    labels:\n      app: gateway\n"
                "  rules:\n  - default:\n      mode: Permissive\n")

    def _permissions(self):
        """Each service admits its callers only; other applications than the CRM are one circle."""
        if self.services is not SERVICES:
            return everybody_may(TRUST_DOMAIN)
        callers = {}
        for source, destination in sorted(PERMITTED):
            callers.setdefault(destination, []).append(source)
        return "---\n".join(
            f"type: MeshTrafficPermission\nname: to-{destination}\nmesh: default\nspec:\n"
            f"  targetRef:\n    kind: Dataplane\n    labels:\n      app: {destination}\n"
            "  rules:\n  - default:\n      allow:\n"
            + "".join(f"      - spiffeID: {{type: Exact, value: \"spiffe://{TRUST_DOMAIN}/ns/crm/sa/{source}\"}}\n"
                      for source in sources)
            for destination, sources in sorted(callers.items()))

    def _dataplane(self, name, pod, hint, port):
        return (f"type: Dataplane\nmesh: default\nname: {name}\n"
                f"labels:\n  app: {name}\n  weir.io/node: {pod.node.name}\n"
                f"  weir.io/addresses: \"{pod.address6}\"\n"
                f"  k8s.kuma.io/namespace: crm\n  k8s.kuma.io/service-account: {name}\n"
                f"networking:\n  address: {pod.address}\n  inbound:\n  - port: {port}\n"
                f"    name: main\n    tags:\n      kuma.io/service: {name}\n"
                f"      kuma.io/protocol: {hint}\n")

    def _agent_config(self, node):
        ca = self.topology.run / "ca"
        workloads = "".join(
            f"- name: {name}\n  namespace: crm\n  serviceAccount: {name}\n"
            f"  match:\n    netns: {pod.netns}\n{self.workload_options(name)}"
            for name, pod in self.pods.items() if pod.node is node)
        return (f"node: {node.name}\ntrustDomain: {TRUST_DOMAIN}\n"
                f"meshRanges: [198.18.0.0/15, \"fd00:18::/32\"]\n"
                f"documents: {self.documents}\ncgroupRoot: {node.cgroup}\n"
                f"bpffs: {node.bpffs}\nadmin:\n  socket: {node.socket}\n"
                f"stateDirectory: {node.run}/state\n"
                f"telemetry:\n  accessLog: {node.run}/access.json\n{self.telemetry}"
                f"ca:\n  rootBundle: {ca}/root.pem\n"
                f"  certificate: {ca}/nodes/{node.name}.pem\n  key: {ca}/nodes/{node.name}.key\n"
                f"workloads:\n{workloads}")

    def start_agents(self):
        for node in self.nodes.values():
            self.topology.start_agent(node, node.run / "agent.yaml")
        for node in self.nodes.values():
            name = f"agent-{node.name}"

            def ready(node=node, name=name):
                if self.topology.processes[name].poll() is not None:
                    raise StepFailed(
                        f"the agent of {node.name} ended: {self.topology.log_tail(name)}",
                        f"{self.cli} check --pre")
                return subprocess.run(
                    ["curl", "-sf", "--unix-socket", node.socket, "http://weir/ready"],
                    capture_output=True).returncode == 0

            wait_until(f"the agent of {node.name} ready", f"look at {self.topology.run}/{name}.log",
                       ready)

    def start_application(self):
        """Starts every service in its pod; the first one that does not listen is named."""
        at = {name: f"{pod.address}:{self.services[name][2]}" for name, pod in self.pods.items()}
        run = self.topology.run
        topology = self.topology
        crm = HERE / "crm"
        forward = {"FORWARD_TRACE_HEADERS": "1" if self.forward_headers else "0"}
        topology.start_in_pod(self.pods["redis"],
                              ["redis-server", "--port", "6379", "--bind", "0.0.0.0", "-::*", "--save", "",
                               "--appendonly", "no", "--protected-mode", "no", "--dir", run])
        topology.start_in_pod(self.pods["crm-salesforce"], ["python3", crm / "salesforce.py"],
                              {"PORT": "8080"})
        self.start_database()
        topology.start_in_pod(self.pods["crm-conductor"], ["python3", crm / "conductor.py"],
                              {**forward, "PORT": "8080", "SALESFORCE_URL": "http://" + at["crm-salesforce"],
                               "DATABASE_URL": "http://" + at["crm-database"]})
        topology.start_in_pod(self.pods["crm-mobile"], ["node", crm / "mobile.js"],
                              {**forward, "PORT": "8080", "CONDUCTOR_URL": "http://" + at["crm-conductor"]})
        conf = run / "gateway.conf"
        conf.write_text((crm / "gateway.nginx.conf").read_text()
                        .replace("@HEADERS@", "" if self.forward_headers else
                                 'proxy_set_header traceparent ""; proxy_set_header tracestate "";')
                        .replace("@RUN@", str(run)).replace("@MOBILE@", at["crm-mobile"]))
        topology.start_in_pod(self.pods["gateway"], ["nginx", "-c", conf, "-e", run / "gateway.log"])
        for name in self.pods:
            self.wait_for_service(name)
        for number, customer in CUSTOMERS.items():
            topology.in_netns(self.pods["redis"].netns, "redis-cli", "-h", "127.0.0.1",
                              "set", f"customer:{number}", customer)

    def start_database(self):
        self.topology.start_in_pod(self.pods["crm-database"], ["node", HERE / "crm" / "database.js"],
                                   {"PORT": "8080", "REDIS_HOST": self.pods["redis"].address,
                                    "REDIS_PORT": "6379"})

    def wait_for_service(self, name):
        port = self.services[name][2]
        wait_until(f"{name} listens on port {port}", f"look at {self.topology.run}/{name}.log",
                   lambda: f":{port} " in self.topology.in_netns(
                       self.pods[name].netns, "ss", "-Hltn", check=False))

    def request(self, path):
        """One request from outside the mesh; gives (status, body)."""
        out = self.topology.in_netns(self.client.netns, "curl", "-s", "--max-time", "10",
                                     "-w", "\n%{http_code}", self.gateway_url + path, check=False)
        body, _, status = out.rpartition("\n")
        return int(status or 0), body

    def send_load(self, requests, connections=8):
        """`requests` from outside over keep-alive connections; gives how many were not 200."""
        urls = "\n".join(f'url = "{self.gateway_url}/customers/{n % 3 + 1}?email=x{n}@example.test"\n'
                         'output = "/dev/null"' for n in range(requests))
        config = self.topology.run / "load.curl"
        config.write_text(urls)
        out = self.topology.in_netns(
            self.client.netns, "curl", "-s", "--max-time", "60", "--parallel",
            "--parallel-max", connections, "-w", "%{http_code}\n", "-K", config, check=False)
        return requests - out.split().count("200")

    def start_capture(self):
        """Captures what crosses the link between the nodes."""
        path = self.topology.run / "wire.pcap"
        node = self.nodes["node-a"]
        self.topology.start("capture", node.netns, node.cgroup / "agent",
                            ["tcpdump", "-i", "uplink0", "--immediate-mode", "-U", "-s", "0", "-Z", "root", "-w", path, "tcp"])
        wait_until("the capture runs", f"look at {self.topology.run}/capture.log", path.exists)
        return path

    def stop_capture(self, path):
        """Gives (bytes captured, secrets found in them)."""
        self.topology.stop("capture")
        wire = path.read_bytes()
        return len(wire), [s.decode() for s in SECRETS if s in wire]

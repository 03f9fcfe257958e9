"""The mesh of the fault tests: two nodes with real agents, a strict client, a strict and two
permissive servers, and two strangers that are in no mesh. Tests hold both ends of a connection
themselves (`listen` and `dial`), or start the loads of fault_load.py in a pod."""
import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "scripts" / "demo"))

from crm_mesh import everybody_may  # noqa: E402
from topology import StepFailed, Topology, cgroup2_root, sh, wait_until  # noqa: E402

TRUST_DOMAIN = "faults.test"
LIBC = ctypes.CDLL(None, use_errno=True)

# port -> kuma.io/protocol of both servers; ports that are not here have no hint.
HINTS = {8080: "http", 9000: "tcp", 9002: "smtp"}


def enter_namespace(fd):
    if LIBC.setns(fd, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class FaultBed:
    PODS = {"client": "node-a", "stranger": "node-a", "lost": "node-a", "near": "node-a", "server": "node-b",
            "open": "node-b"}
    ENROLLED = ("client", "near", "server", "open")

    def __init__(self, prefix, run, binaries):
        self.binaries = pathlib.Path(binaries)
        self.cli = self.binaries / "weir"
        self.topology = Topology(prefix, run, self.binaries / "weir-agent")
        for node in ("node-a", "node-b"):
            self.topology.add_node(node)
        self.pods = {name: self.topology.add_pod(name, self.topology.nodes[node])
                     for name, node in self.PODS.items()}
        self.loads = 0

    @property
    def nodes(self):
        return self.topology.nodes

    @property
    def run(self):
        return self.topology.run

    @property
    def documents(self):
        return self.run / "mesh.d"

    def up(self):
        self.configure()
        for name in ("server", "open", "near"):
            self.start_load(self.pods[name], "serve", name=f"serve-{name}")
        for node in self.nodes.values():
            self.start_agent(node)

    def configure(self):
        """The nodes, the pods, certificates and documents; no process yet."""
        self.topology.up()
        sh(self.cli, "ca", "init", "--trust-domain", TRUST_DOMAIN, "--dir", self.run / "ca")
        self.documents.mkdir()
        for name in self.ENROLLED:
            (self.documents / f"{name}.yaml").write_text(self.dataplane(name))
        (self.documents / "permissions.yaml").write_text(everybody_may(TRUST_DOMAIN))
        for name in ("open", "near"):
            (self.documents / f"{name}-tls.yaml").write_text(
                f"type: MeshTLS\nname: {name}\nmesh: default\nspec:\n  targetRef:\n    kind: Dataplane\n"
                f"    labels:\n      app: {name}\n  rules:\n  - default:\n      mode: Permissive\n")
        for node in self.nodes.values():
            sh(self.cli, "ca", "node", node.name, "--dir", self.run / "ca")
            (node.run / "agent.yaml").write_text(self.agent_config(node))

    def start_agent(self, node):
        name = f"agent-{node.name}"
        self.topology.start_agent(node, node.run / "agent.yaml")

        def ready():
            if self.topology.processes[name].poll() is not None:
                raise StepFailed(f"{name} ended: {self.topology.log_tail(name)}", f"{self.cli} check --pre")
            return subprocess.run(["curl", "-sf", "--unix-socket", node.socket, "http://weir/ready"],
                                  capture_output=True, check=False).returncode == 0

        wait_until(f"{name} ready", f"look at {self.run}/{name}.log", ready)

    def dataplane(self, name, address=None, ports=None):
        pod = self.pods[name]
        inbound = "".join(
            f"  - port: {port}\n    name: p{port}\n    tags:\n      kuma.io/service: {name}\n"
            f"      kuma.io/protocol: {hint}\n" for port, hint in (ports or HINTS).items())
        return (f"type: Dataplane\nmesh: default\nname: {name}\nlabels:\n  app: {name}\n"
                f"  weir.io/node: {pod.node.name}\n  weir.io/addresses: \"{pod.address6}\"\n"
                f"  k8s.kuma.io/namespace: faults\n  k8s.kuma.io/service-account: {name}\n"
                f"networking:\n  address: {address or pod.address}\n  inbound:\n{inbound}")

    def agent_config(self, node):
        ca = self.run / "ca"
        workloads = "".join(
            f"- name: {name}\n  namespace: faults\n  serviceAccount: {name}\n"
            f"  match:\n    netns: {self.pods[name].netns}\n"
            for name in self.ENROLLED if self.pods[name].node is node)
        return (f"node: {node.name}\ntrustDomain: {TRUST_DOMAIN}\n"
                f"meshRanges: [198.18.0.0/15, \"fd00:18::/32\"]\n"
                f"documents: {self.documents}\ncgroupRoot: {node.cgroup}\nbpffs: {node.bpffs}\n"
                f"admin:\n  socket: {node.socket}\nstateDirectory: {node.run}/state\n"
                f"ca:\n  rootBundle: {ca}/root.pem\n  certificate: {ca}/nodes/{node.name}.pem\n"
                f"  key: {ca}/nodes/{node.name}.key\nworkloads:\n{workloads}")

    # What the agents say and use.

    def agent_pid(self, node):
        for pid in (node.cgroup / "agent" / "cgroup.procs").read_text().split():
            if "weir-agent" in pathlib.Path(f"/proc/{pid}/comm").read_text():
                return int(pid)
        raise StepFailed(f"no agent of {node.name} runs", f"look at {self.run}/agent-{node.name}.log")

    def status(self, node):
        return json.loads(sh(self.cli, "--socket", node.socket, "status", "-o", "json"))

    def metric(self, node, name):
        """The sum of a metric's samples."""
        text = sh("curl", "-s", "--unix-socket", node.socket, "http://weir/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if line.startswith((name + " ", name + "{", name + "_total ", name + "_total{")))

    def failures(self, node, reason):
        """How often the agent counted a reason."""
        text = sh("curl", "-s", "--unix-socket", node.socket, "http://weir/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if line.startswith("weir_connection_failures_total{") and f'"{reason}"' in line)

    def descriptors(self, node):
        return len(os.listdir(f"/proc/{self.agent_pid(node)}/fd"))

    def resident(self, node):
        """Resident memory in KiB."""
        status = pathlib.Path(f"/proc/{self.agent_pid(node)}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def cpu_seconds(self, node):
        fields = pathlib.Path(f"/proc/{self.agent_pid(node)}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # Both ends of connections.

    @contextlib.contextmanager
    def inside_namespace(self, name):
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter_namespace(there)
            yield
        finally:
            enter_namespace(home)
            os.close(home)
            os.close(there)

    @contextlib.contextmanager
    def inside(self, pod):
        """Sockets made in here belong to the pod: its namespace and its cgroup. Main thread."""
        line = next(line for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()
                    if line.startswith("0::"))
        former = cgroup2_root() / line[3:].lstrip("/")
        (pod.cgroup / "cgroup.procs").write_text(str(os.getpid()))
        try:
            with self.inside_namespace(pod.netns):
                yield
        finally:
            (former / "cgroup.procs").write_text(str(os.getpid()))

    def listen(self, pod, port, family=socket.AF_INET, address=None):
        """A listening socket of the pod; of AF_INET6 it takes IPv6 alone."""
        with self.inside(pod):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address or ("", port))
            listener.listen(64)
        listener.settimeout(10)
        return listener

    def dial(self, pod, address, family=None):
        """A connection of the pod to (host, port) or a longer address of AF_INET6."""
        if family is None:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with self.inside(pod):
            end = socket.socket(family, socket.SOCK_STREAM)
        end.settimeout(10)
        try:
            end.connect(address)
        except OSError:
            end.close()
            raise
        return end

    def pair(self, client, server, port, family=socket.AF_INET):
        """Both ends of a connection between two pods; the client speaks first with '*'."""
        where = self.pods[server].address if family == socket.AF_INET else self.pods[server].address6
        with self.listen(self.pods[server], port, family) as listener:
            near = self.dial(self.pods[client], (where, port))
            far, _ = listener.accept()
        far.settimeout(10)
        return near, far

    # Loads.

    def start_load(self, pod, *words, name=None):
        self.loads += 1
        name = name or f"load-{self.loads}"
        self.topology.start(name, pod.netns, pod.cgroup, [sys.executable, HERE / "fault_load.py", *words])
        wait_until(f"{words[0]} begins", f"look at {self.run}/{name}.log",
                   lambda: (self.run / f"{name}.log").stat().st_size > 0 or
                   self.topology.processes[name].poll() is not None, seconds=90)
        return name

    def load_lines(self, name):
        lines = (self.run / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def window(self, name):
        """What a running honest load saw since the last window."""
        have = len(self.load_lines(name))
        for pid in self._pids(name):
            os.kill(pid, signal.SIGUSR1)
        wait_until("the window", f"look at {self.run}/{name}.log",
                   lambda: len(self.load_lines(name)) > have)
        return self.load_lines(name)[-1]

    def stop_load(self, name):
        """Ends a load and gives what it printed last."""
        process = self.topology.processes.pop(name)
        for pid in self._pids_of(process):
            os.kill(pid, signal.SIGTERM)
        process.wait(60)
        return self.load_lines(name)[-1]

    def _pids(self, name):
        return self._pids_of(self.topology.processes[name])

    @staticmethod
    def _pids_of(process):
        """nsenter runs the program in its own process."""
        return [process.pid] if process.poll() is None else []


def run_tests(run, use_binaries):
    """The main program of a test file: `--bin DIRECTORY`, then what unittest takes."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--bin", required=True)
    options, rest = parser.parse_known_args()
    use_binaries(pathlib.Path(options.bin).resolve())
    if os.getuid() != 0:
        if os.environ.get("WEIR_REQUIRE_ROOT") == "1":
            sys.exit("needs root")
        print("all tests skipped: needs root")
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A second run at the same time would sweep up the first one's nodes: it waits.
    with open(run.with_suffix(".lock"), "w", encoding="utf8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unittest.main(module="__main__", argv=[sys.argv[0], *rest])

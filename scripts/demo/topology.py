"""Two nodes on this machine, as the quickstart, the end-to-end tests and the benchmark
use them: each node is a network namespace with a bridge, its pods are namespaces behind
that bridge, and one link joins the nodes. 198.18.0.0/15 and fd00:18::/32, without a route
to anywhere else. Every process is started inside a cgroup of the topology, so that
whatever a killed run left behind is found and ended by the next one."""
import dataclasses
import os
import pathlib
import shutil
import signal
import subprocess
import time


class StepFailed(Exception):
    """A step that did not work: what failed, and what the user can do about it."""

    def __init__(self, what, remedy):
        super().__init__(what)
        self.remedy = remedy


def sh(*words, check=True, **options):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        raise StepFailed(
            f"{' '.join(str(w) for w in words)}: {done.stderr.strip() or done.stdout.strip()}",
            "see the line above; a leftover of another tool with the same names?")
    return done.stdout


def cgroup2_root():
    """The cgroup2 mount, wherever it is (hybrid hosts have it beside the v1 trees)."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        if tail.split()[0] == "cgroup2":
            return pathlib.Path(head.split()[4])
    raise StepFailed("no cgroup2 file system is mounted",
                     "mount -t cgroup2 none /sys/fs/cgroup/unified")


def mount_bpffs(path):
    """A BPF file system of one's own: the machine's may be missing or somebody else's."""
    path.mkdir(parents=True, exist_ok=True)
    sh("mount", "-t", "bpf", "bpf", path)


def unmount_bpffs(path):
    """Also one that a killed run left; its pins go with it."""
    while subprocess.run(["mountpoint", "-q", str(path)], check=False).returncode == 0:
        sh("umount", path)


@dataclasses.dataclass
class Pod:
    name: str
    node: "Node"
    number: int

    @property
    def netns(self):
        return f"{self.node.prefix}-{self.name}"

    @property
    def address(self):
        return f"198.18.{self.node.number}.{self.number}"

    @property
    def address6(self):
        return f"fd00:18:{self.node.number}::{self.number}"

    @property
    def cgroup(self):
        return self.node.cgroup / "pods" / self.name


@dataclasses.dataclass
class Node:
    name: str
    number: int
    topology: "Topology"

    @property
    def prefix(self):
        return self.topology.prefix

    @property
    def netns(self):
        return f"{self.prefix}-{self.name}"

    @property
    def cgroup(self):
        return self.topology.cgroup / self.name

    @property
    def run(self):
        return self.topology.run / self.name

    @property
    def bpffs(self):
        return self.topology.bpffs / self.name

    @property
    def socket(self):
        return self.run / "admin.sock"


class Topology:
    """Makes and removes the two nodes. `prefix` keeps several apart on one machine."""

    def __init__(self, prefix, run, agent_binary):
        self.prefix = prefix
        self.run = pathlib.Path(run)
        self.agent_binary = pathlib.Path(agent_binary)
        self.cgroup = cgroup2_root() / prefix
        self.bpffs = self.run / "bpf"
        self.nodes = {}
        self.pods = {}
        self.processes = {}

    def add_node(self, name):
        node = Node(name, len(self.nodes) + 1, self)
        self.nodes[name] = node
        return node

    def add_pod(self, name, node):
        number = 10 + sum(1 for pod in self.pods.values() if pod.node is node)
        self.pods[name] = Pod(name, node, number)
        return self.pods[name]

    def up(self):
        """Namespaces, bridges, links, addresses and cgroups; no process yet."""
        self.down()
        self.run.mkdir(parents=True, exist_ok=True)
        os.chmod(self.run, 0o755)
        mount_bpffs(self.bpffs)
        for node in self.nodes.values():
            node.run.mkdir(parents=True, exist_ok=True)
            self._make_cgroup(node.cgroup / "agent")
            self._make_namespace(node.netns)
            self._ip(node.netns, "link", "add", "pods0", "type", "bridge")
            self._addresses(node.netns, "pods0", f"198.18.{node.number}.1/24",
                            f"fd00:18:{node.number}::1/64")
            for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
                self.in_netns(node.netns, "sysctl", "-qw", f"{key}=1")
        self._link_nodes()
        for pod in self.pods.values():
            self._make_pod(pod)

    def _link_nodes(self):
        first, second = self.nodes.values()
        sh("ip", "link", "add", "uplink0", "netns", first.netns, "type", "veth",
           "peer", "name", "uplink0", "netns", second.netns)
        for node, other in ((first, second), (second, first)):
            self._addresses(node.netns, "uplink0", f"198.18.0.{node.number}/24",
                            f"fd00:18::{node.number}/64")
            self._ip(node.netns, "route", "add", f"198.18.{other.number}.0/24",
                     "via", f"198.18.0.{other.number}")
            self._ip(node.netns, "-6", "route", "add", f"fd00:18:{other.number}::/64",
                     "via", f"fd00:18::{other.number}")

    def _make_pod(self, pod):
        node = pod.node
        self._make_cgroup(pod.cgroup)
        self._make_namespace(pod.netns)
        port = f"pod{pod.number}"
        sh("ip", "link", "add", "eth0", "netns", pod.netns, "type", "veth",
           "peer", "name", port, "netns", node.netns)
        self._ip(node.netns, "link", "set", port, "master", "pods0", "up")
        self._addresses(pod.netns, "eth0", f"{pod.address}/24", f"{pod.address6}/64")
        self._ip(pod.netns, "route", "add", "default", "via", f"198.18.{node.number}.1")
        self._ip(pod.netns, "-6", "route", "add", "default", "via", f"fd00:18:{node.number}::1")

    def _make_cgroup(self, path):
        path.mkdir(parents=True, exist_ok=True)

    def _make_namespace(self, name):
        sh("ip", "netns", "add", name)
        self._ip(name, "link", "set", "lo", "up")

    def _ip(self, netns, *words):
        sh("ip", "-n", netns, *words)

    def _addresses(self, netns, device, v4, v6):
        # Addresses are there at once and not after a detection of duplicates.
        self.in_netns(netns, "sysctl", "-qw", f"net.ipv6.conf.{device}.accept_dad=0")
        self._ip(netns, "addr", "add", v4, "dev", device)
        self._ip(netns, "-6", "addr", "add", v6, "dev", device, "nodad")
        self._ip(netns, "link", "set", device, "up")

    def in_netns(self, netns, *words, check=True, **options):
        return sh("nsenter", f"--net=/run/netns/{netns}", *words, check=check, **options)

    def start(self, name, netns, cgroup, words, env=None, cwd=None):
        """Starts a long-lived process in a namespace and cgroup; its output goes to a log."""
        log = open(self.run / f"{name}.log", "wb")
        procs = cgroup / "cgroup.procs"

        def enter():
            procs.write_text(str(os.getpid()))

        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{netns}", *[str(w) for w in words]],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd,
            env={**os.environ, **(env or {})}, preexec_fn=enter, start_new_session=True)
        log.close()
        self.processes[name] = process
        return process

    def start_in_pod(self, pod, words, env=None):
        return self.start(pod.name, pod.netns, pod.cgroup, words, env)

    def start_agent(self, node, config):
        return self.start(f"agent-{node.name}", node.netns, node.cgroup / "agent",
                          [self.agent_binary, "--config", config])

    def stop(self, name, timeout=15):
        process = self.processes.pop(name, None)
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log_tail(self, name, lines=5):
        path = self.run / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def down(self):
        """Removes everything of this topology, also what a killed run left."""
        for name in list(self.processes):
            if not name.startswith("agent-"):
                self.stop(name, timeout=3)
        for name in list(self.processes):
            self.stop(name)
        self._kill_cgroup()
        for directory in sorted(self.run.glob("*/agent.yaml")):
            if self.agent_binary.exists():
                sh(self.agent_binary, "uninstall-node", "--config", directory, check=False)
        for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
            if name.startswith(self.prefix + "-"):
                sh("ip", "netns", "del", name, check=False)
        self._remove_cgroups()
        unmount_bpffs(self.bpffs)
        shutil.rmtree(self.run, ignore_errors=True)

    def _kill_cgroup(self):
        if not self.cgroup.exists():
            return
        for _ in range(100):
            pids = {int(pid) for procs in self.cgroup.rglob("cgroup.procs")
                    for pid in procs.read_text().split()}
            if not pids:
                return
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)

    def _remove_cgroups(self):
        if not self.cgroup.exists():
            return
        for directory in sorted((d for d in self.cgroup.rglob("*") if d.is_dir()),
                                key=lambda d: -len(d.parts)):
            directory.rmdir()
        self.cgroup.rmdir()


def wait_until(what, remedy, condition, seconds=20):
    """Polls `condition` until it gives something true; StepFailed when time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise StepFailed(f"{what}: not after {seconds} s", remedy)

"""One pair of namespaces per variant, all alive at once: a client and a server joined by a
veth, nginx as the application in the server's. What differs between the variants is only
what stands between the load generator and nginx."""
import os
import pathlib
import shutil
import signal
import subprocess
import time

from topology import mount_bpffs, unmount_bpffs

SMALL_BYTES = 128
BIG_BYTES = 64 << 20


def sh(*words):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def run_time_ns(pids):
    """Scheduler run time of all threads of `pids`, in nanoseconds."""
    total = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            total += int(task.read_text().split()[0])
    return total


def anonymous_kib(pids):
    """Anonymous memory of `pids` (heap and stacks, not the program's text) in KiB."""
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                total += int(line.split()[1])
    return total


def children(pid):
    found = [pid]
    for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += children(int(child))
    return found


class Pair:
    """Client and server namespace of one variant. `target` is what the load asks."""

    name = "direct"
    what = "no proxy"
    most_connections = 10000  # that its processes have descriptors for
    server_ports = "10000 60999"  # the server's net.ipv4.ip_local_port_range
    ports = (8080,)  # of the application
    generator = None  # weir_load, which is also the HTTP/2 server
    curl_options = ()  # of a request that asks whether the pair is ready

    def __init__(self, number, prefix, run, cgroup):
        self.number = number
        self.client_ns = f"{prefix}-{self.name}-c"
        self.server_ns = f"{prefix}-{self.name}-s"
        self.client_ip = f"198.18.{number}.1"
        self.server_ip = f"198.18.{number}.2"
        self.run = run / self.name
        self.cgroup = cgroup / self.name
        self.processes = []
        self.proxies = []

    @property
    def target(self):
        return f"{self.server_ip}:8080"

    def up(self):
        self.run.mkdir(parents=True)
        for side in ("client", "server"):
            (self.cgroup / side).mkdir(parents=True)
        for ns in (self.client_ns, self.server_ns):
            sh("ip", "netns", "add", ns)
            sh("ip", "-n", ns, "link", "set", "lo", "up")
        sh("ip", "link", "add", "eth0", "netns", self.client_ns, "type", "veth",
           "peer", "name", "eth0", "netns", self.server_ns)
        for ns, ip in ((self.client_ns, self.client_ip), (self.server_ns, self.server_ip)):
            sh("ip", "-n", ns, "addr", "add", f"{ip}/24", "dev", "eth0")
            sh("ip", "-n", ns, "link", "set", "eth0", "up")
            ports = self.server_ports if ns == self.server_ns else "10000 60999"
            sh("nsenter", f"--net=/run/netns/{ns}", "sysctl", "-qw",
               f"net.ipv4.ip_local_port_range={ports}", "net.ipv4.tcp_tw_reuse=1",
               "net.core.somaxconn=8192")
        self.start_application()
        self.start_proxies()

    def start_application(self):
        www = self.run / "www"
        www.mkdir()
        (www / "small").write_bytes(b"x" * SMALL_BYTES)
        with open(www / "big", "wb") as file:
            file.truncate(BIG_BYTES)
        for directory in (self.run, www):
            os.chmod(directory, 0o755)
        listen = " ".join(f"listen {port} backlog=8192;" for port in self.ports)
        conf = self.run / "application.conf"
        conf.write_text(f"""daemon off; worker_processes 1; user root;
pid {self.run}/application.pid; error_log {self.run}/application.log warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_timeout 3600s; keepalive_requests 1000000000;
  client_body_temp_path {self.run}/t1; proxy_temp_path {self.run}/t2; fastcgi_temp_path {self.run}/t3;
  uwsgi_temp_path {self.run}/t4; scgi_temp_path {self.run}/t5;
  open_file_cache max=10;
  server {{ {listen} root {www}; }}
}}
""")
        self.application = self.start("server", self.server_ns, "application",
                                      ["nginx", "-c", conf, "-e", self.run / "application.log"])

    def start_proxies(self):
        """Variants with a proxy start it here and add it to self.proxies."""

    def start(self, side, ns, log_name, words, **options):
        """A process of the pair, ended with it. `options` as Popen has them."""
        with open(self.run / f"{log_name}.log", "ab") as log:
            process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{ns}", *map(str, words)], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
                preexec_fn=self.enter(side), **options)
        self.processes.append(process)
        return process

    def proxy_pids(self):
        return [pid for process in self.proxies for pid in children(process.pid)]

    def failures(self):
        """What the proxies counted as failed so far, by reason; for who looks for the cause."""
        return {}

    def spans_offered(self):
        """How many spans each proxy has given to its exporter so far; none where nobody counts."""
        return {}

    def spans_missing(self, before, requests):
        """Of `requests` since `before`, how many have no span at some proxy, or lost it."""
        return 0

    def load(self, generator, mode, connections, seconds, extra=None):
        """`extra`: a rate, or the streams of each connection."""
        words = ["nsenter", f"--net=/run/netns/{self.client_ns}", str(generator), self.target, mode,
                 str(connections), str(seconds)]
        if extra:
            words.append(str(extra))
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True,
                                preexec_fn=self.enter("client"))

    def enter(self, side):
        """For preexec_fn: puts the new process into the variant's cgroup, where hooks see it."""
        procs = self.cgroup / side / "cgroup.procs"
        return lambda: procs.write_text(str(os.getpid()))

    def in_client(self, *words, seconds=120):
        """Runs a command as the client does."""
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.client_ns}", *map(str, words)],
                              capture_output=True, text=True, timeout=seconds,
                              preexec_fn=self.enter("client"), check=False)

    def ready(self):
        done = self.in_client("curl", *self.curl_options, "-s", "-m2", "-o", "/dev/null",
                              "-w", "%{http_code} %{size_download}", f"http://{self.target}/small")
        return done.stdout == f"200 {SMALL_BYTES}"

    def wait_ready(self, seconds=20):
        deadline = time.monotonic() + seconds
        while not self.ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not answer; look at {self.run}/*.log")
            time.sleep(0.1)

    def down(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []


class Http2Application:
    """For a Pair: an upstream that speaks HTTP/2 in the clear, and nothing else."""
    curl_options = ("--http2-prior-knowledge",)

    def start_application(self):
        self.application = self.start("server", self.server_ns, "application",
                                      [self.generator, "0.0.0.0:8080", "serve"])


class Http2Pair(Http2Application, Pair):
    name = "direct-http2"
    what = "no proxy, HTTP/2"


def sweep(prefix, run, cgroup):
    """Ends and removes whatever a run of this bed, killed or not, left behind."""
    if cgroup.exists():
        for _ in range(100):
            pids = {int(p) for f in cgroup.rglob("cgroup.procs") for p in f.read_text().split()}
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if not pids:
                break
            time.sleep(0.05)
    for config in run.glob("*/agent-*.yaml"):
        agent = (run / "agent-binary")
        if agent.exists():
            subprocess.run([agent.read_text(), "uninstall-node", "--config", config],
                           capture_output=True, check=False)
    if os.path.isdir("/run/netns"):
        for name in os.listdir("/run/netns"):
            if name.startswith(prefix + "-"):
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    if cgroup.exists():
        for directory in sorted((d for d in cgroup.rglob("*") if d.is_dir()), key=lambda d: -len(d.parts)):
            directory.rmdir()
        cgroup.rmdir()
    unmount_bpffs(run / "bpf")
    shutil.rmtree(run, ignore_errors=True)


def prepare(prefix, run, cgroup):
    """An empty bed, with a BPF file system of its own."""
    sweep(prefix, run, cgroup)
    run.mkdir()
    os.chmod(run, 0o755)
    mount_bpffs(run / "bpf")

#!/usr/bin/env python3
"""What finding parents costs: CPU of the agent and of the kernel programs a request.

  sudo scripts/benchmark/causality_cost.py --bin build/release/bin [--rounds N] [--seconds S] [--json FILE]

Two pods of one agent hold the same nginx in front of the same upstream, one with
`causality: off`, one with `inferred`; they are visited in rotation. The agent's figure is the
scheduler's run time, the programs' is what the kernel counts while kernel.bpf_stats_enabled
is set (counting it is not in it). Each request comes in and goes out, so it is looked at
twice; spans are made in both.
"""
import argparse
import json
import pathlib
import signal
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "demo"))

from bed import run_time_ns  # noqa: E402
from topology import StepFailed, Topology, sh, wait_until  # noqa: E402

PREFIX = "weir-ccost"
RUN = pathlib.Path("/run/weir-ccost")
PROGRAMS = {"weir_recv", "weir_send", "weir_parent_state"}
STATS = pathlib.Path("/proc/sys/kernel/bpf_stats_enabled")
VARIANTS = ("off", "inferred")
NGINX = """daemon off; worker_processes 1; user root; pid {run}/{name}.pid; error_log {run}/{name}.err warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_timeout 3600s; keepalive_requests 1000000000;
  client_body_temp_path {run}/{name}-1; proxy_temp_path {run}/{name}-2; fastcgi_temp_path {run}/{name}-3;
  uwsgi_temp_path {run}/{name}-4; scgi_temp_path {run}/{name}-5;
  {rest}
}}
"""


def programs():
    """Id -> nanoseconds spent in it."""
    def listed():
        try:
            return [json.loads(sh("bpftool", "-j", "prog", "show"))]  # there may be none
        except (StepFailed, json.JSONDecodeError):  # another one went while they were listed
            return None
    [shown] = wait_until("the programs", "bpftool prog show", listed)
    return {p["id"]: p.get("run_time_ns", 0) for p in shown if p.get("name") in PROGRAMS}


class Bed:
    def __init__(self, binaries):
        self.cli, self.generator = binaries / "weir", binaries / "weir_load"
        self.topology = Topology(PREFIX, RUN, binaries / "weir-agent")
        self.node, far = self.topology.add_node("near"), self.topology.add_node("far")
        self.apps = {v: self.topology.add_pod(v, self.node) for v in VARIANTS}
        self.upstream = self.topology.add_pod("upstream", far)

    def start_nginx(self, pod, rest):
        conf = RUN / f"{pod.name}.conf"
        conf.write_text(NGINX.format(run=RUN, name=pod.name, rest=rest))
        self.topology.start_in_pod(pod, ["nginx", "-c", conf, "-e", RUN / f"{pod.name}.err"])

    def up(self):
        self.topology.up()
        sh(self.cli, "ca", "init", "--trust-domain", "bench.test", "--dir", RUN / "ca")
        sh(self.cli, "ca", "node", "near", "--dir", RUN / "ca")
        (RUN / "mesh.d").mkdir()
        workloads = ""
        for variant, pod in self.apps.items():
            workloads += (f"- name: {variant}\n  mode: Permissive\n  causality: \"{variant}\"\n"
                          f"  match:\n    netns: {pod.netns}\n")
            (RUN / "mesh.d" / f"{variant}.yaml").write_text(
                f"type: Dataplane\nmesh: default\nname: \"{variant}\"\nlabels:\n  weir.io/node: near\n"
                f"networking:\n  address: {pod.address}\n  inbound:\n  - port: 8080\n    name: main\n"
                "    tags:\n      kuma.io/service: app\n      kuma.io/protocol: http\n")
        (self.node.run / "agent.yaml").write_text(
            f"node: near\ntrustDomain: bench.test\nmeshRanges: [198.19.0.0/24]\nworkers: 1\n"
            f"documents: {RUN}/mesh.d\ncgroupRoot: {self.node.cgroup}\nbpffs: {self.node.bpffs}\n"
            f"admin:\n  socket: {self.node.socket}\nstateDirectory: {self.node.run}/state\n"
            f"ca:\n  rootBundle: {RUN}/ca/root.pem\n  certificate: {RUN}/ca/nodes/near.pem\n"
            f"  key: {RUN}/ca/nodes/near.key\nworkloads:\n{workloads}")
        others = programs()
        self.agent = self.topology.start_agent(self.node, self.node.run / "agent.yaml")
        wait_until("the agent ready", f"look at {RUN}/agent-near.log", lambda: subprocess.run(
            ["curl", "-sf", "--unix-socket", self.node.socket, "http://weir/ready"],
            capture_output=True).returncode == 0)
        self.programs = set(programs()) - set(others)
        self.start_nginx(self.upstream, "server { listen 9100 backlog=4096; location / { return 200 ok; } }")
        for pod in self.apps.values():
            self.start_nginx(pod, f"""upstream up {{ server {self.upstream.address}:9100; keepalive 128; }}
  server {{ listen 8080 backlog=4096; location / {{
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header traceparent "";
    proxy_set_header tracestate ""; proxy_pass http://up; }} }}""")
        for pod in self.apps.values():
            wait_until(f"{pod.name} answers", f"look at {RUN}/*.err", lambda p=pod: "200" in self.topology.in_netns(
                self.topology.nodes["far"].netns, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
                f"http://{p.address}:8080/", check=False))

    def load(self, variant, connections, seconds, rate=0):
        out = self.topology.in_netns(self.topology.nodes["far"].netns, self.generator,
                                     f"{self.apps[variant].address}:8080", *(("paced", connections, seconds, rate) if rate else
                                       ("closed", connections, seconds)))
        result = json.loads(out.splitlines()[-1])
        if result["errors"]:
            raise StepFailed(f"{result['errors']} requests failed", f"look at {RUN}/*.err")
        return result["requests"]

    def spent(self):
        return run_time_ns([self.agent.pid]), sum(ns for i, ns in programs().items() if i in self.programs)

    def measure(self, variant, connections, seconds, rate):
        before = self.spent()
        requests = self.load(variant, connections, seconds, rate)
        agent, kernel = (after - was for after, was in zip(self.spent(), before))
        return {"agent_us": agent / 1e3 / requests, "programs_us": kernel / 1e3 / requests, "requests": requests}

    def parents(self):
        out = sh(self.cli, "--socket", self.node.socket, "flows", "--last", "10000", "-o", "jsonl", "dir=out and src=inferred")
        flows = [json.loads(line) for line in out.splitlines() if line]
        return sum(f.get("parentSource", "none") == "turn" for f in flows if f.get("kind") == "request"), len(flows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=int, default=0, help="requests a second; default: as fast as it goes")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bed = Bed(options.bin.resolve())
    counted = STATS.read_text()
    rows = {v: [] for v in VARIANTS}
    try:
        bed.up()
        STATS.write_text("1")
        for variant in VARIANTS:
            bed.load(variant, 1, 1)  # alone, until the rule is believed
        for _ in range(options.rounds):
            for variant in VARIANTS:
                rows[variant].append(bed.measure(variant, options.connections, options.seconds, options.rate))
        turns, calls = bed.parents()
    finally:
        STATS.write_text(counted)
        bed.topology.down()
    for variant in VARIANTS:
        print(f"{variant:9}" + "".join(
            f"  {key} {statistics.median(values):6.2f} [{min(values):.2f}-{max(values):.2f}]"
            for key in ("agent_us", "programs_us") for values in [[r[key] for r in rows[variant]]]))
    cost = [sum(on[k] - off[k] for k in ("agent_us", "programs_us")) for on, off in zip(rows["inferred"], rows["off"])]
    ratio = [sum(on[k] for k in ("agent_us", "programs_us")) / sum(off[k] for k in ("agent_us", "programs_us"))
             for on, off in zip(rows["inferred"], rows["off"])]
    print(f"cost of inferring: {statistics.median(cost):.2f} us of CPU a request [{min(cost):.2f}-{max(cost):.2f}],"
          f" x{statistics.median(ratio):.3f}; {turns} of the last {calls} calls got a parent by turn")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "cost_us": cost, "ratio": ratio}, indent=1))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StepFailed as failure:
        print(f"failed: {failure}\ntry: {failure.remedy}", file=sys.stderr)
        sys.exit(1)

#!/usr/bin/env python3
"""How often the parent that weir infers is the right one, with real servers.

  sudo scripts/benchmark/causality.py --bin build/release/bin [--only REGEX] [--kind KIND] [--scale N] [--json FILE]

A server in an enrolled pod answers GET /r/ID by calling /u/ID upstream, and forwards no
header. Every call that weir saw leave is compared with the request that it says the call
was made for: by the ids in the paths, so by nothing that weir or the kernel made. Calls of
a background thread have no request; any parent of theirs is wrong.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "demo"))

from topology import StepFailed, Topology, sh, wait_until  # noqa: E402

FILES = HERE / "causality"
PREFIX = "weir-cause"
RUN = pathlib.Path("/run/weir-cause-bench")
# Alone, so that there is something to compare the rule with; see docs/causality.md.
LEARNING = 140
Case = collections.namedtuple("Case", "name server env query share background hooks", defaults=({}, "", 0, "", ""))
NODE_HOOK = HERE.parent.parent / "share" / "weir" / "node-hook.cjs"

PLAIN = [
    Case("nginx, new connections", "nginx"),
    Case("nginx, pooled", "nginx", {"POOLED": "1"}),
    Case("Python threads", "python", {"KIND": "threads"}),
    Case("Python threads, pooled", "python", {"KIND": "threads", "POOLED": "1"}),
    Case("Python thread pool", "python", {"KIND": "pool"}),
    Case("Python asyncio", "python", {"KIND": "asyncio"}),
    Case("Node, direct", "node"),
    Case("Node, direct, pooled", "node", {"POOLED": "1"}),
    Case("Node, two in a row", "node", {}, "twice"),
    Case("Node, two in a row, pooled", "node", {"POOLED": "1"}, "twice"),
    Case("Node, behind a timer", "node", {}, "timer"),
    Case("Node, behind a file", "node", {}, "file"),
    Case("Go, direct", "go"),
    Case("Go, direct, pooled", "go", {"POOLED": "1"}),
    Case("Go, behind a sleep", "go", {}, "timer"),
    Case("Java threads", "java", {"KIND": "threads"}),
    Case("Java threads, pooled", "java", {"KIND": "threads", "POOLED": "1"}),
    Case("Java HttpServer", "java", {"KIND": "httpserver"}),
]
ADVERSARIAL = [
    Case("Node, 5 % behind a timer under load", "node", {"POOLED": "1"}, "timer", 5),
    Case("Node, all behind a timer under load", "node", {"POOLED": "1"}, "timer", 100),
    Case("Node, 5 % behind a file under load", "node", {"POOLED": "1"}, "file", 5),
    Case("Python threads, 5 % by a pool under load", "python", {"KIND": "threads"}, "pool", 5),
    Case("Go, 5 % behind a sleep under load", "go", {"POOLED": "1"}, "timer", 5),
    Case("Node, pool of 8", "node", {"POOLED": "1", "SOCKETS": "8"}),
    Case("Node, caller from mid-load", "node", {"POOLED": "1"}, "", 0, "background"),
    Case("Python threads, caller from mid-load", "python", {"KIND": "threads"}, "", 0, "background"),
    Case("Java threads, caller from mid-load", "java", {"KIND": "threads"}, "", 0, "background"),
    Case("Go, caller from mid-load", "go", {}, "", 0, "background"),
    Case("Python pool, caller from mid-load", "python", {"KIND": "pool"}, "", 0, "background"),
    Case("Python asyncio, caller from mid-load", "python", {"KIND": "asyncio"}, "", 0, "background"),
    Case("Python asyncio, caller since before", "python", {"KIND": "asyncio"}, "", 0, "before"),
    Case("Python pool, caller since before", "python", {"KIND": "pool"}, "", 0, "before"),
    Case("Node, caller since before", "node", {"POOLED": "1"}, "", 0, "before"),
]
# With hooks in their runtimes; see docs/causality.md.
HOOKED = [case._replace(hooks="go") for case in (
    Case("Go, direct", "go"),
    Case("Go, direct, pooled", "go", {"POOLED": "1"}),
    Case("Go, behind a sleep", "go", {}, "timer"),
    Case("Go, behind a sleep, pooled", "go", {"POOLED": "1"}, "timer"),
    Case("Go, written by the handler itself", "go", {}, "raw"),
    Case("Go, 5 % behind a sleep under load", "go", {"POOLED": "1"}, "timer", 5),
    Case("Go, caller from mid-load", "go", {"POOLED": "1"}, "", 0, "background"),
)] + [case._replace(hooks="node", env={**case.env, "NODE_OPTIONS": f"--require={NODE_HOOK}"}) for case in (
    Case("Node, direct", "node"),
    Case("Node, direct, pooled", "node", {"POOLED": "1"}),
    Case("Node, two in a row", "node", {}, "twice"),
    Case("Node, behind a timer", "node", {}, "timer"),
    Case("Node, behind a timer, pooled", "node", {"POOLED": "1"}, "timer"),
    Case("Node, behind a file", "node", {}, "file"),
    Case("Node, fetch behind a timer", "node", {"FETCH": "1"}, "timer"),
    Case("Node, pool of 8 behind a timer", "node", {"POOLED": "1", "SOCKETS": "8"}, "timer"),
    Case("Node, 5 % behind a timer under load", "node", {"POOLED": "1"}, "timer", 5),
    Case("Node, caller from mid-load", "node", {"POOLED": "1"}, "timer", 0, "background"),
)]


class Bench:
    def __init__(self, binaries):
        self.cli = binaries / "weir"
        self.topology = Topology(PREFIX, RUN, binaries / "weir-agent")
        near, far = self.topology.add_node("near"), self.topology.add_node("far")
        self.node = near
        self.app = self.topology.add_pod("app", near)
        self.upstream = self.topology.add_pod("upstream", far)
        self.python = "/usr/bin/python3"

    def up(self):
        self.topology.up()
        sh(self.cli, "ca", "init", "--trust-domain", "bench.test", "--dir", RUN / "ca")
        sh(self.cli, "ca", "node", "near", "--dir", RUN / "ca")
        (RUN / "mesh.d").mkdir()
        self.agent_config = (
            f"node: near\ntrustDomain: bench.test\nmeshRanges: [198.19.0.0/24]\n"
            f"documents: {RUN}/mesh.d\ncgroupRoot: {self.node.cgroup}\nbpffs: {self.node.bpffs}\n"
            f"admin:\n  socket: {self.node.socket}\nstateDirectory: {self.node.run}/state\n"
            f"ca:\n  rootBundle: {RUN}/ca/root.pem\n  certificate: {RUN}/ca/nodes/near.pem\n"
            f"  key: {RUN}/ca/nodes/near.key\ntelemetry:\n  flowStoreRecords: 100000\n"
            f"workloads:\n- name: app\n  namespace: bench\n  serviceAccount: app\n  mode: Permissive\n"
            f"  match:\n    netns: {self.app.netns}\n")
        (RUN / "mesh.d" / "app.yaml").write_text(
            "type: Dataplane\nmesh: default\nname: app\nlabels:\n  weir.io/node: near\n"
            "  k8s.kuma.io/namespace: bench\n  k8s.kuma.io/service-account: app\nnetworking:\n"
            f"  address: {self.app.address}\n  inbound:\n  - port: 8080\n    name: main\n"
            "    tags:\n      kuma.io/service: app\n      kuma.io/protocol: http\n")
        self.topology.start_in_pod(self.upstream, [self.python, FILES / "traffic.py", "upstream", "9100"])

    def start_agent(self, hooks=""):
        """A new one for each case: nothing is known of the server's process."""
        self.topology.stop("agent-near")
        (self.node.run / "agent.yaml").write_text(
            self.agent_config + (f"  runtimeHooks: [{hooks}]\n" if hooks else ""))
        self.topology.start_agent(self.node, self.node.run / "agent.yaml")
        wait_until("the agent ready", f"look at {RUN}/agent-near.log", lambda: subprocess.run(
            ["curl", "-sf", "--unix-socket", self.node.socket, "http://weir/ready"],
            capture_output=True).returncode == 0)

    def command(self, case):
        """What starts the server; None if its runtime is not on this machine."""
        env = {"UPSTREAM": f"{self.upstream.address}:9100", **case.env}
        if case.server == "nginx":
            pooled = "POOLED" in case.env
            conf = RUN / "app.conf"
            text = (FILES / "nginx.conf").read_text()
            for name, value in {"RUN": RUN, "UPSTREAM": env["UPSTREAM"],
                                "KEEPALIVE": "keepalive 128;" if pooled else "",
                                "CONNECTION": "" if pooled else "close"}.items():
                text = text.replace(f"@{name}@", str(value))
            conf.write_text(text)
            return ["nginx", "-c", conf, "-e", RUN / "app.log"], env
        if case.server == "python":
            return [self.python, FILES / "app.py"], env
        if case.server == "node":
            return ["node", FILES / "app.js"], env
        if case.server == "go":
            if not (RUN / "app-go").exists():
                sh("go", "build", "-o", RUN / "app-go", FILES / "app.go",
                   env={**os.environ, "GO111MODULE": "off", "PATH": os.environ["PATH"] + ":/usr/local/go/bin"})
            return [RUN / "app-go"], env
        if not (RUN / "classes").exists():
            sh("javac", "-d", RUN / "classes", FILES / "App.java")
        return ["java", "-Xmx256m", "-cp", RUN / "classes", "App"], env

    def start_server(self, case):
        words, env = self.command(case)
        self.topology.start_in_pod(self.app, words, env)
        wait_until(f"{case.name} listens", f"look at {RUN}/app.log", lambda: ":8080 " in self.topology.in_netns(
            self.app.netns, "ss", "-Hltn", check=False))

    def load(self, name, requests, connections, *more):
        out = self.topology.in_netns(self.topology.nodes["far"].netns, self.python, FILES / "traffic.py", "load",
                                     f"{self.app.address}:8080", name, requests, connections, *more)
        if int(out) != 0:
            raise StepFailed(f"{out.strip()} of {requests} requests failed", f"look at {RUN}/*.log")

    def flows(self, expression):
        out = sh(self.cli, "--socket", self.node.socket, "flows", "--last", "100000", "-o", "jsonl", expression)
        return [json.loads(line) for line in out.splitlines() if line]

    def judge(self, name, calls_each, requests):
        """Compares parents with paths; gives counts by outcome and by source."""
        requested = wait_until("all requests seen", "weir flows", lambda: (
            r := self.flows(f"dir=in and path^=/r/{name}-")) and len(r) >= requests and r)
        served = {f["traceId"]: f["http"]["path"].split("/")[2] for f in requested}
        calls = wait_until("all calls seen", "weir flows", lambda: (
            c := self.flows(f"dir=out and path^=/u/{name}-")) and len(c) >= requests * calls_each and c)
        counts, sources = collections.Counter(), collections.Counter()
        for call in calls:
            source = call.get("parentSource", "none")
            if source == "none":
                counts["unknown"] += 1
                continue
            sources[source] += 1
            right = served.get(call["traceId"]) == call["http"]["path"].split("/")[2]
            counts["correct" if right else "wrong"] += 1
            if not right:
                print(f"wrong: {call['http']['path']} below {served.get(call['traceId'])} by {source}",
                      file=sys.stderr)
        return counts, sources

    def run(self, case, requests_at):
        self.start_agent(case.hooks)
        self.start_server(case)
        if case.hooks == "go":
            time.sleep(1.5)  # a program is looked at within a second of its listen()
        if case.background == "before":
            self.load("none", 1, 1, "", 0, "background")
        self.load("learn", LEARNING, 1, *([case.query] if case.query and not case.share else []))
        rows = []
        for connections, requests in requests_at:
            name = f"c{connections}"
            query = case.query if connections > 1 or not case.share else ""
            more = [query, case.share] + (["background"] if case.background == "background" and
                                               connections > 1 and not rows[1:] else [])
            self.load(name, requests, connections, *more)
            counts, sources = self.judge(name, 2 if case.query == "twice" else 1, requests)
            rows.append((connections, counts, sources))
        strangers = [f for f in self.flows("dir=out and path^=/u/background-")
                     if f.get("parentSource", "none") != "none"]
        self.topology.stop("app", timeout=3)
        return rows, len(strangers)


def share(count, total):
    return f"{100 * count / total:.1f}" if total else "-"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--kind", default="", help="plain, adversarial or hooked; default: all")
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    bench = Bench(options.bin.resolve())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    requests_at = [(c, int(n * options.scale)) for c, n in ((1, 200), (8, 1600), (64, 3200))]
    results = []
    kinds = {"plain": PLAIN, "adversarial": ADVERSARIAL, "hooked": HOOKED}
    wrong, total = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
    try:
        bench.up()
        for kind, cases in kinds.items():
            if options.kind not in ("", kind):
                continue
            print(f"\n{kind}: correct / wrong / unknown, percent of the calls (wrong as a count)")
            print(f"{'server':38} " + " ".join(f"{f'c{c}':>18}" for c, _ in requests_at) + "  source at most load")
            for case in cases:
                if not re.search(options.only, case.name):
                    continue
                tool = {"python": "python3", "java": "javac"}.get(case.server, case.server)
                if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/go/bin"):
                    print(f"{case.name:38} {tool} is not on this machine")
                    continue
                rows, strangers = bench.run(case, requests_at)
                cells = []
                for _, counts, _ in rows:
                    n = sum(counts.values())
                    cells.append(f"{share(counts['correct'], n)} / {counts['wrong']} / {share(counts['unknown'], n)}")
                    wrong[kind] += counts["wrong"]
                    total[kind] += n
                wrong[kind] += strangers
                note = dict(rows[-1][2])
                extra = f" background with a parent: {strangers}" if case.background else ""
                print(f"{case.name:38} " + " ".join(f"{c:>18}" for c in cells) + f"  {note}{extra}", flush=True)
                results.append({"kind": kind, "case": case.name, "background_with_parent": strangers, "rows": [
                    {"connections": c, **counts, "sources": dict(s)} for c, counts, s in rows]})
    finally:
        bench.topology.down()
    for kind in wrong:
        print(f"{kind}: {wrong[kind]} wrong of {total[kind]} calls")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    rare = all(wrong[kind] * 10_000 <= max(total[kind], 1) for kind in ("adversarial", "hooked"))
    return 0 if wrong["plain"] == 0 and rare else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StepFailed as failure:
        print(f"failed: {failure}\ntry: {failure.remedy}", file=sys.stderr)
        sys.exit(1)

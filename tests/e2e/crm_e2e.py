"""The quickstart's topology as a test: two agents, six services, real eBPF, real TLS.

  sudo python3 tests/e2e/crm_e2e.py --bin build/dev/bin [-v] [CrmTest.test_...]
"""
import argparse
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "scripts" / "demo"))

from crm_mesh import COMMANDS, CUSTOMERS, EDGES, LEARNING, SERVICES, SPANS_PER_REQUEST, CrmMesh  # noqa: E402
from topology import sh, wait_until  # noqa: E402

PREFIX = "weir-e2e"
RUN = pathlib.Path("/run/weir-e2e")
BIN = None
RECORD = None  # where the metrics of a run are kept for dashboards_e2e.py
DOCUMENTED = HERE.parent.parent / "docs" / "metrics.md"


def bpf_objects_of(mesh):
    """The BPF programs and links of the running agents, by number: others may run beside them."""
    objects = set()
    for node in mesh.nodes.values():
        for pid in (node.cgroup / "agent" / "cgroup.procs").read_text().split():
            for entry in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
                try:
                    fields = dict(line.split(":", 1) for line in entry.read_text().splitlines() if ":" in line)
                except OSError:
                    continue  # closed meanwhile
                objects |= {(kind, int(fields[key])) for kind, key in (("prog", "prog_id"), ("link", "link_id"))
                            if key in fields}
    return objects


def bpf_objects():
    """The machine's BPF programs and links."""
    return {(kind, one["id"]) for kind in ("prog", "link")
            for one in json.loads(sh("bpftool", "-j", kind) or "[]")}


def pod_state(mesh, pod):
    """What weir may have changed inside a pod's namespace."""
    return [mesh.topology.in_netns(pod.netns, *words.split(), check=False) for words in (
        "ip rule", "ip -6 rule", "ip route show table all", "ip -6 route show table all",
        "sysctl -a -r net.ipv[46].(tcp_fwmark_accept|fwmark_reflect|conf.*.rp_filter|ip_nonlocal_bind)", "ss -Hltn")]


class CrmTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mesh = CrmMesh(PREFIX, RUN, BIN / "weir-agent", BIN / "weir")
        cls.addClassCleanup(cls.mesh.topology.down)
        cls.mesh.topology.up()
        cls.mesh.write_configuration()
        cls.mesh.start_application()
        cls.pods_before = {name: pod_state(cls.mesh, pod) for name, pod in cls.mesh.pods.items()}
        cls.mesh.start_agents()
        # The only one whose calls have no headers, see LEARNING.
        cls.mesh.topology.stop("crm-database")
        cls.mesh.start_database()
        cls.mesh.wait_for_service("crm-database")
        wait_until("an answer through the gateway", f"look at {RUN}/*.log",
                   lambda: cls.mesh.request("/customers/1")[0] == 200)
        assert cls.mesh.send_load(LEARNING, connections=1) == 0

    def weir_json(self, node, *words):
        return [json.loads(line) for line in self.mesh.weir(node, *words).splitlines() if line]

    def flows(self, node, expression):
        return self.weir_json(node, "flows", "--last", "5000", "-o", "jsonl", expression)

    def status(self, node):
        return json.loads(self.mesh.weir(node, "status", "-o", "json"))

    def spans_of(self, trace_id):
        return json.loads(self.mesh.weir_everywhere("traces", trace_id, "-o", "json"))["spans"]

    def test_answers_come_from_every_service(self):
        for number, name in CUSTOMERS.items():
            status, body = self.mesh.request(f"/customers/{number}")
            self.assertEqual(status, 200)
            self.assertEqual(json.loads(body), {"id": number, "name": name, "account": f"SF-{number}",
                                                "owner": "inside-sales", "stage": "prospect"})

    def test_one_trace_goes_through_all_services(self):
        before = self.mesh.spans_by_trace(1000)
        self.assertEqual(self.mesh.request("/customers/2?token=secret")[0], 200)

        def new_trace():
            return next((t for t in self.mesh.spans_by_trace(1000) if t not in before), None)

        trace = wait_until("the trace", "weir status", new_trace)
        spans = wait_until("all spans", "weir status",
                           lambda: (s := self.spans_of(trace)) and len(s) >= SPANS_PER_REQUEST and s)
        self.assertEqual(len(spans), SPANS_PER_REQUEST)
        by_id = {span["spanId"]: span for span in spans}
        roots = [span for span in spans if not span.get("parentSpanId")]
        self.assertEqual([(r["service"], r["kind"]) for r in roots], [("gateway", "server")])
        edges = set()
        for span in spans:
            if span is roots[0]:
                continue
            parent = by_id[span["parentSpanId"]]
            if span["kind"] == "server":
                self.assertEqual(parent["kind"], "client")
                edges.add((parent["service"], span["service"]))
            else:
                self.assertEqual((parent["kind"], parent["service"]), ("server", span["service"]))
                command = span["attributes"].get("db.system.name") == "redis"
                self.assertIn(span["parentSource"], ("turn", "sole") if command else ("header",))
                if command:
                    self.assertEqual(span["name"], "GET")
                    edges.add((span["service"], "redis"))
        self.assertEqual(edges, EDGES | COMMANDS)

    def test_the_access_log_has_a_line_for_each_span(self):
        before = self.mesh.spans_by_trace(1000)
        self.assertEqual(self.mesh.request("/customers/1")[0], 200)
        trace = wait_until("the trace", "weir status", lambda: next(
            (t for t in self.mesh.spans_by_trace(1000) if t not in before), None))
        spans = wait_until("all spans", "weir status",
                           lambda: (s := self.spans_of(trace)) and len(s) >= SPANS_PER_REQUEST and s)

        def lines():
            found = []
            for node in self.mesh.nodes.values():
                for line in (node.run / "access.json").read_text().splitlines():
                    entry = json.loads(line)
                    if entry.get("trace.id") == trace:
                        found.append(entry)
            return found if len(found) >= len(spans) else None

        found = wait_until("the lines of the access logs", f"look at {RUN}/*/access.json", lines)
        self.assertEqual(sorted(e["span.id"] for e in found), sorted(s["spanId"] for s in spans))
        self.assertEqual([e["http.response.status_code"] for e in found if "db.system.name" not in e],
                         [200] * (SPANS_PER_REQUEST - len(COMMANDS)))
        self.assertEqual({e["service.name"] for e in found}, {s["service"] for s in spans})

    def test_a_transaction_is_one_tree_of_flows(self):
        before = self.mesh.spans_by_trace(1000)
        self.assertEqual(self.mesh.request("/customers/3")[0], 200)
        trace = wait_until("the whole trace", "weir status", lambda: next(
            (t for t, spans in self.mesh.spans_by_trace(1000).items()
             if t not in before and spans >= SPANS_PER_REQUEST), None))
        lines = self.mesh.weir_everywhere("flows", "--all", "--tree", "--fields", "dir,src,dst,policy",
                                          f"trace={trace}").splitlines()[1:]
        self.assertEqual(len(lines), SPANS_PER_REQUEST)
        depths = [line.split()[0] + str(len(line[5:]) - len(line[5:].lstrip(" |`-"))) for line in lines]
        # The gateway's request has no lead, and below it every call is in its caller.
        self.assertEqual(depths[0], "in0")
        self.assertEqual([d for d in depths[1:] if d.endswith("0")], [])
        self.assertEqual(depths[:5], ["in0", "out3", "in6", "out9", "in12"])
        # Who may is decided where a connection arrives, so there the rule is known.
        rules = {line.split()[-1] for line in lines if line.startswith("in") and "crm/gateway:" not in line}
        self.assertEqual(rules, {f"to-{destination}:allow[0]" for _, destination in EDGES})

    def test_every_edge_is_encrypted_or_joined_on_its_node(self):
        self.mesh.request("/customers/1")
        for source, destination in EDGES | COMMANDS:
            node, (far, _, port) = SERVICES[source][0], SERVICES[destination]
            expression = f"src=crm/{source} and dst=crm/{destination} and dst.port={port} and dir=out"
            flows = wait_until(f"flows of {source} -> {destination}", "weir flows",
                               lambda n=node, e=expression: self.flows(n, e))
            expected = "local" if node == far else "mtls"
            self.assertEqual({f["mtls"] for f in flows}, {expected}, (source, destination))
            self.assertEqual({f["verdict"] for f in flows}, {"allow"}, (source, destination, flows[0]))
            if expected == "mtls":
                self.assertEqual({f["tlsVersion"] for f in flows}, {"1.3"})

    def test_values_of_a_query_are_not_kept(self):
        self.mesh.request("/customers/1?email=ada@example.test")
        flows = wait_until("the flow", "weir flows",
                           lambda: self.flows("node-a", "dst=crm/gateway and path^=/customers"))
        text = json.dumps(flows)
        self.assertNotIn("ada@example.test", text)
        self.assertIn("email", text)

    def test_nothing_readable_crosses_the_wire(self):
        capture = self.mesh.start_capture()
        self.assertEqual(self.mesh.send_load(60), 0)
        size, found = self.mesh.stop_capture(capture)
        self.assertGreater(size, 10_000)
        self.assertEqual(found, [])

    def test_plain_text_to_a_strict_workload_is_refused(self):
        pod = self.mesh.pods["crm-mobile"]
        done = subprocess.run(["nsenter", f"--net=/run/netns/{self.mesh.client.netns}", "curl", "-s", "-m5",
                               f"http://{pod.address}:8080/mobile/customers/1"], capture_output=True)
        self.assertIn(done.returncode, (52, 56))  # empty reply, or reset
        flows = wait_until("the refusal", "weir flows",
                           lambda: self.flows("node-a", "dst=crm/crm-mobile and reason=plaintext-refused"))
        self.assertEqual(flows[-1]["verdict"], "deny")

    def test_who_has_no_permission_is_answered_403_and_recorded(self):
        # On another node, on the same one, and over the database's own protocol.
        for caller, service, node in (("gateway", "crm-conductor", "node-b"), ("gateway", "crm-salesforce", "node-a")):
            done = self.from_pod(caller, f"http://{self.mesh.pods[service].address}:8080/secret?token=1", "-i")
            self.assertIn(b"403 Forbidden", done.stdout, (caller, service))
            self.assertNotIn(b"spiffe", done.stdout)
            flows = wait_until("the refusal", "weir flows", lambda n=node, s=service: self.flows(
                n, f"src=crm/gateway and dst=crm/{s} and dir=in and reason=policy-denied"))
            self.assertEqual({(f["verdict"], f["policy"], f["http"]["path"], f["http"]["status"]) for f in flows},
                             {("deny", "default-deny", "/secret", 403)})
        done = self.from_pod("gateway", f"http://{self.mesh.pods['redis'].address}:6379/")
        self.assertIn(done.returncode, (7, 52, 56))
        wait_until("the refusal", "weir flows", lambda: self.flows(
            "node-a", "dst=crm/redis and verdict=deny and policy=default-deny"))

    def test_a_port_that_nobody_listens_on_is_refused(self):
        done = self.from_pod("crm-mobile", f"http://{self.mesh.pods['crm-conductor'].address}:9/")
        self.assertIn(done.returncode, (7, 52, 56))

    def test_ipv6_takes_the_same_way(self):
        done = self.from_pod("crm-mobile", f"http://[{self.mesh.pods['crm-conductor'].address6}]:8080"
                             "/conductor/customers/3")
        self.assertIn(CUSTOMERS[3].encode(), done.stdout)
        flows = wait_until("the flow", "weir flows", lambda: [
            f for f in self.flows("node-a", "src=crm/crm-mobile and dst=crm/crm-conductor")
            if "fd00" in f["originalDestination"]])
        self.assertEqual({f["mtls"] for f in flows}, {"mtls"})

    def from_pod(self, name, url, *flags):
        pod = self.mesh.pods[name]
        procs = pod.cgroup / "cgroup.procs"
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{pod.netns}", "curl", "-s", "-m5", *flags, url], capture_output=True,
            preexec_fn=lambda: procs.write_text(str(os.getpid())))

    def test_status_is_ready_and_checks_find_nothing(self):
        for node in self.mesh.nodes:
            status = wait_until("ready", "weir status", lambda n=node: (s := self.status(n))["ready"] and s)
            here = {name for name, (where, _, _) in SERVICES.items() if where == node}
            self.assertEqual({w["name"] for w in status["workloads"]}, here)
            for workload in status["workloads"]:
                self.assertEqual(workload["probe"]["outcome"], "ok", workload)
                self.assertTrue(workload["hooksEffective"])
            done = subprocess.run([self.mesh.cli, "--socket", self.mesh.nodes[node].socket, "check", "-o", "json"],
                                  capture_output=True, text=True)
            failed = [r for r in json.loads(done.stdout)["results"] if r["outcome"] == "fail"]
            self.assertEqual(failed, [])
            self.assertEqual(done.returncode, 0)
            results = json.loads(done.stdout)["results"]
            for result in results:
                self.assertTrue(result["fact"], result)
                if result["outcome"] in ("warn", "fail", "unknown"):
                    self.assertTrue(result["remedy"], result)
            # Links, pins and routing of this agent all have an owner.
            leftovers = next(r for r in results if r["code"] == "WK205")
            self.assertNotIn(str(RUN), leftovers["fact"])

    def test_the_map_of_both_agents_is_the_real_one(self):
        self.mesh.request("/customers/1")

        def edges():
            found = json.loads(self.mesh.weir_everywhere("map", "-o", "json"))["edges"]
            # Another test asks for a port that nobody listens on.
            return {(e["source"], e["destination"]): e for e in found if int(e["requests"]) > int(e["errors"])}

        names = {(f"crm/{source}", f"crm/{destination}") for source, destination in EDGES | COMMANDS}
        found = wait_until("all edges", "weir map", lambda: (e := edges()) and names <= set(e) and e)
        self.assertEqual(set(found) - {k for k in found if k[0] == "outside"}, names)
        for key in names:
            edge = found[key]
            self.assertEqual(int(edge["plain"]), 0, key)
            self.assertGreater(edge["p99Seconds"], 0)
            self.assertEqual(sum(int(n) for n in edge["parentSources"].values()), int(edge["requests"]))
        near = self.mesh.weir_everywhere("map", "--focus", "crm/crm-database").splitlines()[1:]
        self.assertTrue(near)
        self.assertTrue(all("crm/crm-database" in line for line in near), near)
        mermaid = self.mesh.weir_everywhere("map", "-o", "mermaid")
        self.assertEqual(mermaid.splitlines()[0], "flowchart LR")

    def test_top_adds_up_what_both_agents_saw(self):
        for _ in range(5):
            self.assertEqual(self.mesh.request("/customers/1")[0], 200)

        def rows(by):
            top = json.loads(self.mesh.weir_everywhere("top", "--once", "-o", "json", "--window", "5m",
                                                       "--by", by))
            self.assertEqual(int(top["folded"]), 0)
            return top["rows"]

        pairs = wait_until("all pairs", "weir top", lambda: (r := {
            (p["source"], p["destination"]): p for p in rows("pair")}) and {
                (f"crm/{s}", f"crm/{d}") for s, d in EDGES | COMMANDS} <= set(r) and r)
        counts = {int(pairs[f"crm/{s}", f"crm/{d}"]["requests"]) for s, d in EDGES | COMMANDS if s != "crm-mobile"}
        self.assertTrue(all(count >= 5 for count in counts), counts)
        self.assertIn("to-crm-conductor:allow[0]", {r["name"] for r in rows("policy")})
        self.assertTrue(all(int(r["pid"]) > 0 and r["name"] for r in rows("pid")))

    def test_metrics_are_there_for_curl(self):
        text = sh("curl", "-s", "--unix-socket", self.mesh.nodes["node-a"].socket, "http://weir/metrics")
        self.assertTrue(text.endswith("# EOF\n"))
        self.assertIn("weir_requests_total{", text)

    # Late, so that what the other tests did is in it.
    def test_y_metrics_are_the_documented_ones(self):
        texts = {node: sh("curl", "-s", "--unix-socket", at.socket, "http://weir/metrics")
                 for node, at in self.mesh.nodes.items()}
        documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in re.findall(
            r"^\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", DOCUMENTED.read_text(), re.M)}
        self.assertGreater(len(documented), 30)
        for node, text in texts.items():
            types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
            self.assertEqual(types, {name: kind for name, (kind, _) in documented.items()}, node)
            for family, (_, labels) in documented.items():
                for found in re.findall(rf"^{family}(?:_total|_bucket|_count|_sum)?\{{([^}}]*)\}}", text, re.M):
                    self.assertEqual(set(re.findall(r'(\w+)="', found)) - {"le"}, labels, family)
            sides = len(set(re.findall(r'direction="\w+",source="[^"]*",destination="[^"]*"', text)))
            series = [line for line in text.splitlines() if not line.startswith("#")]
            own = [line for line in series if 'source="' not in line]
            print(f"{node}: {len(own)} series, and {len(series) - len(own)} for {sides} sides of pairs", file=sys.stderr)
            self.assertLess(len(own), 300)
            # 12 for a side whose requests end alike, 1 more for another end of a request, 3 for one of a connection.
            ends = sum(line.startswith("weir_requests_total") for line in series) + 3 * sum(
                line.startswith("weir_connections_total") for line in series)
            self.assertLessEqual(len(series) - len(own), 12 * sides + ends)
            self.assertIn("weir_metrics_overflow_total 0\n", text)
        self.assertRegex(texts["node-a"], r'_bucket\{.*\} \d+ # \{trace_id="[0-9a-f]{32}",span_id="[0-9a-f]{16}"\} ')
        if RECORD:
            RECORD.write_text(texts["node-a"])

    def test_a_bad_document_is_refused_whole_and_named(self):
        broken = self.mesh.documents / "zz-broken.yaml"
        revision = self.status("node-a")["config"]["revision"]
        broken.write_text("type: MeshTLS\nname: x\nmesh: default\nspec:\n  ruels: []\n")
        try:
            rejection = wait_until("the rejection", "weir status", lambda: self.status("node-a")["config"].get(
                "lastRejection"))
            self.assertIn("zz-broken.yaml:5", " ".join(rejection["errors"]))
            self.assertEqual(self.status("node-a")["config"]["revision"], revision)
            self.assertEqual(self.mesh.request("/customers/1")[0], 200)
            done = subprocess.run([self.mesh.cli, "config", "check", self.mesh.documents], capture_output=True,
                                  text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn("zz-broken.yaml:5", done.stdout + done.stderr)
        finally:
            broken.unlink()
        wait_until("the good set again", "weir status",
                   lambda: not self.status("node-a")["config"].get("lastRejection"))

    def test_a_changed_document_takes_effect_without_a_lost_request(self):
        document = self.mesh.documents / "mobile-open.yaml"
        url = f"http://{self.mesh.pods['crm-mobile'].address}:8080/mobile/customers/1"
        document.write_text("type: MeshTLS\nname: mobile\nmesh: default\nspec:\n  targetRef:\n"
                            "    kind: Dataplane\n    labels:\n      app: crm-mobile\n"
                            "  rules:\n  - default:\n      mode: Permissive\n")
        try:
            wait_until("plain text is let in", "weir status", lambda: self.from_outside(url) == 200)
            self.assertEqual(self.mesh.send_load(60), 0)
        finally:
            document.unlink()
        wait_until("plain text is refused again", "weir status", lambda: self.from_outside(url) != 200)

    def from_outside(self, url):
        out = self.mesh.topology.in_netns(self.mesh.client.netns, "curl", "-s", "-m5", "-o", "/dev/null",
                                          "-w", "%{http_code}", url, check=False)
        return int(out or 0)

    def test_zz_1_a_killed_agent_leaves_closed_workloads_refused_until_it_is_back(self):
        node = self.mesh.nodes["node-b"]
        agent = self.mesh.topology.processes.pop("agent-node-b")
        pid = next(int(p) for p in (node.cgroup / "agent" / "cgroup.procs").read_text().split()
                   if "weir-agent" in pathlib.Path(f"/proc/{p}/cmdline").read_text())
        os.kill(pid, signal.SIGKILL)
        agent.wait()
        out = self.from_pod("crm-conductor", f"http://{self.mesh.pods['crm-salesforce'].address}:8080/x")
        self.assertEqual(out.returncode, 7, "connect must be refused, not go out in plain text")
        inbound = self.from_outside(f"http://{self.mesh.pods['crm-database'].address}:8080/db/customers/1")
        self.assertEqual(inbound, 0, "inbound must be refused while the agent is away")
        self.mesh.topology.start_agent(node, node.run / "agent.yaml")
        wait_until("service is back", f"look at {RUN}/agent-node-b.log",
                   lambda: self.mesh.request("/customers/1")[0] == 200, seconds=30)

    def test_zz_2_uninstalling_leaves_nothing(self):
        objects = bpf_objects_of(self.mesh)
        self.assertLessEqual({"prog", "link"}, {kind for kind, _ in objects})
        for name, node in self.mesh.nodes.items():
            self.mesh.topology.stop(f"agent-{name}")
            sh(BIN / "weir-agent", "uninstall-node", "--config", node.run / "agent.yaml")
        # The kernel frees programs and links a moment after their last owner has gone.
        wait_until("BPF programs and links gone", "bpftool prog; bpftool link",
                   lambda: not objects & bpf_objects())
        self.assertEqual(sh("find", RUN / "bpf", "-mindepth", "1", "!", "-name", "*.debug"), "")
        for name, pod in self.mesh.pods.items():
            self.assertEqual(pod_state(self.mesh, pod), self.pods_before[name], name)
        # Without weir the application talks in the clear, as before.
        self.assertEqual(self.from_outside(
            f"http://{self.mesh.pods['crm-mobile'].address}:8080/mobile/customers/1"), 200)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--record", type=pathlib.Path)
    options, rest = parser.parse_known_args()
    BIN = pathlib.Path(options.bin).resolve()
    RECORD = options.record
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

"""weir-agent.service under a real systemd, its workloads two units of the same machine, the far
end a pod of another node: what deploy/systemd promises.

  sudo python3 tests/e2e/unit_e2e.py --build build/dev [-v] [UnitTest.test_...]
"""
import argparse
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "scripts" / "demo"))

from crm_mesh import everybody_may  # noqa: E402
from machine import Machine, remove_root  # noqa: E402
from topology import Topology, sh, wait_until  # noqa: E402

PREFIX = "weir-unit"
RUN = pathlib.Path("/run/weir-unit")
ROOT = pathlib.Path("/var/tmp/weir-unit")
BUILD = None
DOMAIN = "unit.test"
VM_ADDRESS, VM_ADDRESS6 = "198.18.0.2", "fd00:18::2"
LOG = f"look at {RUN}/vm/machine.log, and at journalctl in the machine"

SHOP_UNIT = """[Service]
ExecStart=/usr/bin/python3 -m http.server 8080 --bind :: --directory /srv/shop
DynamicUser=yes
StandardOutput=null
"""
# Calls the pod as soon as it is started: it knows nothing of weir, and may be refused in the
# moment that its enrolment takes.
CALLER_UNIT = """[Service]
Type=oneshot
ExecStart=/usr/bin/curl -sf -m 5 --retry 20 --retry-connrefused --retry-delay 1 http://{pod}:8080/pod.txt -o /run/caller.out
"""
# The tests need not wait for half a minute.
QUICK_WATCHDOG = "[Service]\nWatchdogSec=3\n"


class UnitTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        topology = cls.topology = Topology(PREFIX, RUN, BUILD / "bin" / "weir-agent")
        cls.near, cls.vm = topology.add_node("node-a"), topology.add_node("vm")
        cls.pod = topology.add_pod("pod", cls.near)
        cls.machine = Machine(cls.vm, ROOT)
        cls.addClassCleanup(cls.down)
        topology.up()
        remove_root(ROOT)
        cls.machine.prepare()
        cls.write_mesh()
        cls.install()
        cls.machine.boot()
        cls.machine.run("systemctl", "start", "shop.service")
        wait_until("the unit listens", LOG, lambda: ":8080" in cls.machine.run("ss", "-Hltn"))
        # The kernel adds it by itself, some time after the link is up.
        wait_until("the link-local address", LOG, lambda: "local fe80::" in cls.machine.run(
            "ip", "-6", "route", "show", "table", "local", "dev", "uplink0"))
        cls.before = cls.machine_state()
        cls.machine.run("systemctl", "start", "weir-agent.service")
        topology.start_in_pod(cls.pod, ["python3", "-m", "http.server", "8080", "--bind", cls.pod.address,
                                        "--directory", RUN / "pod"])
        topology.start_agent(cls.near, cls.near.run / "agent.yaml")
        wait_until("an answer of the unit to the pod", LOG, lambda: cls.from_pod(VM_ADDRESS) == "shop\n")

    @classmethod
    def down(cls):
        cls.topology.down()
        remove_root(ROOT)

    @classmethod
    def write_mesh(cls):
        ca = RUN / "ca"
        cli = BUILD / "bin" / "weir"
        sh(cli, "ca", "init", "--trust-domain", DOMAIN, "--dir", ca)
        for node in ("node-a", "vm"):
            sh(cli, "ca", "node", node, "--dir", ca)
        common = f"trustDomain: {DOMAIN}\nmeshRanges: [198.18.0.0/15, \"fd00:18::/32\"]\n"
        (cls.near.run / "agent.yaml").write_text(
            f"node: node-a\n{common}documents: {RUN}/mesh.d\ncgroupRoot: {cls.near.cgroup}\n"
            f"bpffs: {cls.near.bpffs}\nadmin:\n  socket: {cls.near.socket}\nstateDirectory: {cls.near.run}/state\n"
            f"ca:\n  rootBundle: {ca}/root.pem\n  certificate: {ca}/nodes/node-a.pem\n"
            f"  key: {ca}/nodes/node-a.key\nworkloads:\n- name: pod\n  match:\n    netns: {cls.pod.netns}\n")
        documents = {"pod": cls.dataplane("pod", "node-a", cls.pod.address, cls.pod.address6),
                     "shop": cls.dataplane("shop", "vm", VM_ADDRESS, VM_ADDRESS6),
                     "permissions": everybody_may(DOMAIN),
                     "shop-caller": cls.dataplane("shop-caller", "vm", VM_ADDRESS, VM_ADDRESS6, inbound=False)}
        (RUN / "pod").mkdir()
        (RUN / "pod" / "pod.txt").write_text("pod\n")
        for directory in (RUN / "mesh.d", cls.machine.root / "etc/weir/mesh.d"):
            directory.mkdir(parents=True)
            for name, text in documents.items():
                (directory / f"{name}.yaml").write_text(text)
        cls.machine.write("etc/weir/agent.yaml", f"node: vm\n{common}workloads:\n"
                          + "".join(f"- name: {name}\n  match:\n    unit: {unit}.service\n"
                                    for name, unit in (("shop", "shop"), ("shop-caller", "caller"))))
        for name, source in (("root.pem", ca / "root.pem"), ("node.pem", ca / "nodes/vm.pem"),
                             ("node.key", ca / "nodes/vm.key")):
            cls.machine.write(f"etc/weir/ca/{name}", source.read_text())
        (cls.machine.root / "etc/weir/ca/node.key").chmod(0o600)

    @staticmethod
    def dataplane(name, node, address, address6, inbound=True):
        return (f"type: Dataplane\nmesh: default\nname: {name}\nlabels:\n  app: {name}\n"
                f"  weir.io/node: {node}\n  weir.io/addresses: \"{address6}\"\n"
                f"networking:\n  address: {address}\n" + ("" if not inbound else
                f"  inbound:\n  - port: 8080\n    name: main\n"
                f"    tags:\n      kuma.io/service: {name}\n      kuma.io/protocol: http\n"))

    @classmethod
    def install(cls):
        """As the README says, into the machine's file system; the configuration stays."""
        kept = (cls.machine.root / "etc/weir/agent.yaml").read_text()
        sh("cmake", "--install", BUILD, "--prefix", "/usr", env={**os.environ, "DESTDIR": str(cls.machine.root)})
        cls.machine.write("etc/weir/agent.yaml", kept)
        cls.machine.write("etc/systemd/system/shop.service", SHOP_UNIT)
        cls.machine.write("etc/systemd/system/caller.service", CALLER_UNIT.format(pod=cls.pod.address))
        cls.machine.write("etc/systemd/system/weir-agent.service.d/watchdog.conf", QUICK_WATCHDOG)
        cls.machine.write("srv/shop/index.html", "shop\n")

    @classmethod
    def machine_state(cls):
        """What weir may have changed in the machine."""
        return [cls.machine.run(*words.split(), check=False) for words in (
            "ip rule", "ip -6 rule", "ip route show table all", "ip -6 route show table all",
            "sysctl -a -r net.ipv[46].(tcp_fwmark_accept|fwmark_reflect|conf.*.rp_filter|ip_nonlocal_bind)",
            "ss -Hltn", "find /sys/fs/bpf -mindepth 1 ! -name *.debug")]

    @classmethod
    def from_pod(cls, host, path="/"):
        procs = cls.pod.cgroup / "cgroup.procs"
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{cls.pod.netns}", "curl", "-s", "-m5", f"http://{host}:8080{path}"],
            capture_output=True, text=True, preexec_fn=lambda: procs.write_text(str(os.getpid()))).stdout

    def from_outside(self):
        """In the clear, from the other node itself: not of the mesh."""
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.near.netns}", "curl", "-s", "-m5",
                               f"http://{VM_ADDRESS}:8080/"], capture_output=True, text=True)

    def weir(self, *words):
        return self.machine.run("weir", *words)

    def flows(self, expression):
        return [json.loads(line) for line in self.weir("flows", "-o", "jsonl", "--last", "1000",
                                                       expression).splitlines() if line]

    def near_flows(self, expression):
        return [json.loads(line) for line in sh(
            BUILD / "bin" / "weir", "--socket", self.near.socket, "flows", "-o", "jsonl", "--last", "1000",
            expression).splitlines() if line]

    def agent_pid(self):
        return self.machine.property("weir-agent.service", "MainPID")

    def test_the_unit_is_ready_only_when_the_agent_serves(self):
        self.assertEqual(self.machine.property("weir-agent.service", "Type"), "notify")
        self.assertEqual(self.machine.property("weir-agent.service", "SubState"), "running")
        status = json.loads(self.weir("status", "-o", "json"))
        self.assertTrue(status["ready"])
        self.assertEqual({w["name"]: w["probe"]["outcome"] for w in status["workloads"] if w["name"] == "shop"},
                         {"shop": "ok"})

    def test_a_unit_is_called_over_mutual_tls_in_both_families(self):
        for host in (VM_ADDRESS, f"[{VM_ADDRESS6}]"):
            self.assertEqual(self.from_pod(host), "shop\n")
        flows = wait_until("both flows", LOG, lambda: (
            f := self.flows("src=pod and dst=shop and dir=in and kind=request")) and len(
                {":" in x["source"]["address"] for x in f}) == 2 and f)
        self.assertEqual({f["mtls"] for f in flows}, {"mtls"})

    def test_plain_text_to_a_unit_is_refused(self):
        self.assertNotEqual(self.from_outside().returncode, 0)
        wait_until("the refusal", LOG, lambda: self.flows("dst=shop and reason=plaintext-refused"))

    def test_a_unit_calls_with_its_own_identity(self):
        self.machine.run("systemctl", "start", "caller.service")
        self.assertEqual(self.machine.run("cat", "/run/caller.out"), "pod\n")
        flows = wait_until("the flow", LOG, lambda: self.flows("src=shop-caller and dst=pod and dir=out"))
        # Its very first connection did not pass weir by.
        self.assertEqual(self.near_flows("dst=pod and reason=plaintext-refused"), [])
        self.assertEqual({f["mtls"] for f in flows}, {"mtls"})
        self.assertEqual({f["source"]["identity"] for f in flows}, {f"spiffe://{DOMAIN}/workload/shop-caller"})

    def test_reload_rereads_the_configuration_and_keeps_the_process(self):
        pid = self.agent_pid()
        path = self.machine.root / "etc/weir/agent.yaml"
        path.write_text(path.read_text() + "logLevel: debug\n")
        self.machine.run("systemctl", "reload", "weir-agent.service")
        wait_until("the new level", LOG, lambda: json.loads(self.weir("status", "-o", "json"))["logLevel"] == "debug")
        self.assertEqual(self.agent_pid(), pid)

    def test_zz_1_a_stuck_agent_is_ended_by_the_watchdog_and_nothing_leaves_in_the_clear(self):
        pid = self.agent_pid()
        self.machine.run("kill", "-STOP", pid)
        self.assertNotEqual(self.from_outside().returncode, 0)
        wait_until("the next agent", LOG, lambda: self.agent_pid() not in ("0", pid), seconds=30)
        self.assertNotEqual(self.from_outside().returncode, 0)
        wait_until("service is back", LOG, lambda: self.from_pod(VM_ADDRESS) == "shop\n", seconds=30)

    def test_zz_2_a_stopped_agent_leaves_closed_units_refused_also_when_they_start_again(self):
        self.machine.run("systemctl", "stop", "weir-agent.service")
        self.assertEqual(self.machine.property("weir-agent.service", "Result"), "success")
        self.assertNotEqual(self.from_outside().returncode, 0)
        self.machine.run("systemctl", "restart", "shop.service")
        wait_until("the unit listens", LOG, lambda: ":8080" in self.machine.run("ss", "-Hltn"))
        self.assertNotEqual(self.from_outside().returncode, 0)
        self.machine.write("etc/systemd/system/caller.service.d/once.conf",
                           f"[Service]\nExecStart=\nExecStart=/usr/bin/curl -s -m5 http://{self.pod.address}:8080/\n")
        self.machine.run("systemctl", "daemon-reload")
        self.machine.run("systemctl", "start", "caller.service", check=False)
        connection_refused = "7"  # curl's; from the far end it would be a reset
        self.assertEqual(self.machine.property("caller.service", "ExecMainStatus"), connection_refused)

    def test_zz_3_uninstalling_leaves_the_machine_as_it_was(self):
        self.weir("uninstall-node")
        self.assertEqual(self.machine_state(), self.before)
        self.assertEqual(self.from_outside().stdout, "shop\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--build", required=True)
    options, rest = parser.parse_known_args()
    BUILD = pathlib.Path(options.build).resolve()
    if os.getuid() != 0:
        if os.environ.get("WEIR_REQUIRE_ROOT") == "1":
            sys.exit("needs root")
        print("all tests skipped: needs root")
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    lock = open(RUN.with_suffix(".lock"), "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unittest.main(argv=[sys.argv[0], *rest])

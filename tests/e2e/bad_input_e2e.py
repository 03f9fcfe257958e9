"""What a wrong machine, file or start gets from weir-agent: one line that names the thing and
the remedy, an exit status of its own, and nothing half-applied.

  sudo python3 tests/e2e/bad_input_e2e.py --bin build/dev/bin [-v] [BadInputTest.test_...]
"""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import unittest

from fault_bed import FaultBed, cgroup2_root, run_tests, sh, wait_until

PREFIX = "weir-bad"
RUN = pathlib.Path("/run/weir-bad")
BIN = None

# Exit statuses of weir-agent(8).
CONFIGURATION, PRIVILEGES, KERNEL, CERTIFICATE, ADMIN_SOCKET, RUNNING = 10, 11, 12, 13, 14, 15


class BadInputTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bed = FaultBed(PREFIX, RUN, BIN)
        cls.addClassCleanup(cls.bed.topology.down)
        cls.bed.configure()
        cls.node = cls.bed.nodes["node-b"]
        cls.config = cls.bed.agent_config(cls.node)
        cls.listener = cls.bed.listen(cls.bed.pods["server"], 9000)
        cls.addClassCleanup(cls.listener.close)

    def setUp(self):
        self.before = self.state()

    def state(self):
        """What an agent may have changed: the pods' namespaces, and what is pinned."""
        pods = [self.bed.topology.in_netns(self.bed.pods[name].netns, *words.split(), check=False)
                for name in ("server", "open") for words in (
                    "ip rule", "ip -6 rule", "ip route show table all", "ss -Hltn",
                    "sysctl net.ipv4.tcp_fwmark_accept net.ipv4.fwmark_reflect")]
        return pods + [sh("find", self.bed.topology.bpffs, "-mindepth", "1", "!", "-name", "*.debug")]

    def run_agent(self, config=None, prefix=()):
        path = self.node.run / "tried.yaml"
        path.write_text(config if config is not None else self.config)
        path.chmod(0o644)
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.node.netns}", *prefix, str(BIN / "weir-agent"),
                               "--config", str(path)], capture_output=True, text=True, timeout=60, check=False)

    def assert_refused(self, done, status, *words, lines=1):
        """Ended with `status`, the last line says all of `words`, and nothing is left of it."""
        errors = [line for line in done.stderr.splitlines() if "weir-agent: " in line or " error" in line]
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(len(errors), lines, done.stderr)
        for word in words:
            self.assertIn(word, errors[0])
        self.assertIn("; try: ", done.stderr)
        self.assert_nothing_changed()

    def assert_nothing_changed(self):
        self.assertEqual(self.state(), self.before)
        # Somebody else's connection goes on as on a machine without weir.
        with self.bed.dial(self.bed.pods["stranger"], (self.bed.pods["server"].address, 9000)) as end:
            far, _ = self.listener.accept()
            far.sendall(b"direct")
            self.assertEqual(end.recv(16), b"direct")
            far.close()

    def test_an_agent_without_privileges_names_what_is_missing(self):
        done = self.run_agent(prefix=("setpriv", "--bounding-set=-all", "--inh-caps=-all"))
        self.assert_refused(done, PRIVILEGES, "CAP_BPF", "root")

    def test_an_agent_of_another_user_names_what_is_missing(self):
        done = self.run_agent(prefix=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))
        self.assert_refused(done, PRIVILEGES, "CAP_BPF", "root")

    def in_mounts(self, *commands):
        """A prefix that runs the agent with other mounts than the machine's."""
        return ("unshare", "--mount", "--propagation=private", "sh", "-c", "; ".join(commands) + '; exec "$@"', "agent")

    def test_a_kernel_without_type_information_is_named(self):
        done = self.run_agent(prefix=self.in_mounts("mount -t tmpfs none /sys/kernel/btf"))
        self.assert_refused(done, KERNEL, "type information", "CONFIG_DEBUG_INFO_BTF")

    def test_a_missing_cgroup2_mount_is_named(self):
        config = "".join(line + "\n" for line in self.config.splitlines() if not line.startswith("cgroupRoot"))
        done = self.run_agent(config, prefix=self.in_mounts(f"umount -l {cgroup2_root()}"))
        self.assert_refused(done, KERNEL, "cgroup2", "mount -t cgroup2")

    def test_a_cgroup_path_that_is_none_is_named(self):
        done = self.run_agent(self.config.replace(f"cgroupRoot: {self.node.cgroup}", "cgroupRoot: /tmp"))
        self.assert_refused(done, CONFIGURATION, "/tmp", "cgroupRoot")

    def test_a_missing_bpf_file_system_is_named(self):
        done = self.run_agent(self.config.replace(f"bpffs: {self.node.bpffs}", f"bpffs: {RUN}/nobpf/weir"))
        self.assert_refused(done, KERNEL, f"{RUN}/nobpf", "mount -t bpf")

    def ca_files(self, change):
        """The configuration with certificate files of its own, which `change` spoils."""
        copy = RUN / "ca-copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(RUN / "ca", copy)
        change(copy)
        return self.config.replace(f"{RUN}/ca/", f"{copy}/")

    def test_missing_files_of_the_certificate_authority_are_named(self):
        for name in ("root.pem", "nodes/node-b.pem", "nodes/node-b.key"):
            config = self.ca_files(lambda copy, name=name: (copy / name).unlink())
            self.assert_refused(self.run_agent(config), CERTIFICATE, f"ca-copy/{name}", "No such file")

    def test_an_expired_intermediate_is_named(self):
        def expire(copy):
            sh("openssl", "req", "-new", "-key", copy / "nodes/node-b.key", "-subj", "/O=weir node/CN=node-b",
               "-out", copy / "request.pem")
            sh("openssl", "x509", "-req", "-in", copy / "request.pem", "-CA", copy / "root.pem", "-CAkey",
               copy / "root.key", "-CAcreateserial", "-days", "-1", "-out", copy / "nodes/node-b.pem")

        self.assert_refused(self.run_agent(self.ca_files(expire)), CERTIFICATE, "nodes/node-b.pem", "expired",
                            "weir ca node node-b")

    def test_files_that_do_not_match_are_named(self):
        def other_key(copy):
            shutil.copy(copy / "nodes/node-a.key", copy / "nodes/node-b.key")

        def other_node(copy):
            shutil.copy(copy / "nodes/node-a.key", copy / "nodes/node-b.key")
            shutil.copy(copy / "nodes/node-a.pem", copy / "nodes/node-b.pem")

        def other_root(copy):
            sh(self.bed.cli, "ca", "init", "--trust-domain", "faults.test", "--dir", copy / "other")
            shutil.copy(copy / "other/root.pem", copy / "root.pem")

        def no_certificate(copy):
            (copy / "nodes/node-b.pem").write_text("-----BEGIN NONSENSE-----\n")

        for change, words in ((other_key, ("node-b.key", "is not the key of")),
                              (other_node, ("node-b.pem", "'node-a'", "'node-b'")),
                              (other_root, ("root.pem", "not good")),
                              (no_certificate, ("node-b.pem",))):
            self.assert_refused(self.run_agent(self.ca_files(change)), CERTIFICATE, *words)

    def test_an_unknown_field_of_agent_yaml_is_named_with_its_line(self):
        done = self.run_agent("nodde: x\n" + self.config)
        self.assert_refused(done, CONFIGURATION, "tried.yaml:1", "nodde", "--agent-config")

    def with_document(self, text):
        path = self.bed.documents / "zz.yaml"
        path.write_text(text)
        self.addCleanup(path.unlink)

    def test_a_document_with_unknown_fields_is_named_with_file_and_line(self):
        self.with_document("type: MeshTLS\nname: x\nmesh: default\nspec:\n  targetRef:\n    kind: Mesh\n"
                           "  ruels: []\n  rules:\n  - default:\n      mode: Strict\n")
        done = self.run_agent()
        self.assert_refused(done, CONFIGURATION, "zz.yaml:7", "ruels")

    def test_two_workloads_with_one_address_are_both_named(self):
        self.with_document(self.bed.dataplane("server").replace("name: server\n", "name: twin\n", 1))
        done = self.run_agent()
        self.assert_refused(done, CONFIGURATION, "twin", "server", self.bed.pods["server"].address)

    def test_a_metrics_port_in_use_is_named(self):
        with self.bed.inside_namespace(self.node.netns):
            taken = socket.create_server(("127.0.0.1", 0))
        with taken:
            port = taken.getsockname()[1]
            done = self.run_agent(self.config + f"metrics:\n  address: 127.0.0.1:{port}\n")
        self.assert_refused(done, ADMIN_SOCKET, f"127.0.0.1:{port}", "metrics.address")

    def test_something_else_at_the_path_of_the_admin_socket_is_left_alone(self):
        self.node.socket.write_text("mine")
        try:
            self.assert_refused(self.run_agent(), ADMIN_SOCKET, str(self.node.socket), "is not a socket")
            self.assertEqual(self.node.socket.read_text(), "mine")
        finally:
            self.node.socket.unlink()

    def test_a_second_agent_harms_the_first_in_nothing(self):
        bed = self.bed
        bed.start_agent(self.node)
        try:
            done = self.run_agent()
            self.assertEqual(done.returncode, ADMIN_SOCKET, done.stderr)
            self.assertIn("already running on " + str(self.node.socket), done.stderr)
            done = self.run_agent(self.config.replace("admin.sock", "other.sock"))
            self.assertEqual(done.returncode, RUNNING, done.stderr)
            self.assertIn(str(self.node.bpffs), done.stderr)
            self.assertIn("; try: ", done.stderr)
            self.assertEqual(json.loads(sh(bed.cli, "--socket", self.node.socket, "status", "-o", "json"))["state"],
                             "ready")
        finally:
            bed.topology.stop("agent-node-b")
            sh(BIN / "weir-agent", "uninstall-node", "--config", self.node.run / "agent.yaml")

    def test_a_namespace_that_vanishes_is_reported_and_the_others_go_on(self):
        bed = self.bed
        pod = bed.pods["open"]
        bed.start_agent(self.node)
        try:
            def listeners():
                return {w["name"]: int(w.get("listenersAlive") or 0) for w in bed.status(self.node)["workloads"]}

            wait_until("both are enrolled", "weir status",
                       lambda: (have := listeners()) and have.get("server") and have.get("open"))
            sh("ip", "netns", "del", pod.netns)
            wait_until("the loss is seen", "weir status", lambda: not listeners().get("open"))
            self.assertGreater(listeners()["server"], 0)
            self.assertIn("unenrolled", (RUN / "agent-node-b.log").read_text())
        finally:
            bed.topology.stop("agent-node-b")
            sh(BIN / "weir-agent", "uninstall-node", "--config", self.node.run / "agent.yaml")
            if pod.netns not in os.listdir("/run/netns"):
                bed.topology._make_pod(pod)

    def test_zz_a_stale_admin_socket_is_replaced(self):
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(self.node.socket))
        stale.close()
        self.bed.start_agent(self.node)
        self.bed.topology.stop("agent-node-b")
        sh(BIN / "weir-agent", "uninstall-node", "--config", self.node.run / "agent.yaml")


if __name__ == "__main__":
    run_tests(RUN, lambda path: globals().update(BIN=path))

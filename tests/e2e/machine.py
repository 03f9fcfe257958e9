"""A machine with systemd as its first process, for what only a real service manager shows. It
is a systemd-nspawn container whose root is this machine's own file system, with a layer above
it that takes all changes: nothing is downloaded, and it boots in a second. Its network is a
namespace of the topology, its cgroups are a cgroup2 root of its own."""
import os
import pathlib
import subprocess

from topology import sh, wait_until

BOOT_TARGET = "[Unit]\nDescription=Enough of a system for the test\nRequires=basic.target dbus.service\n" \
    "After=basic.target dbus.service\nAllowIsolate=yes\n"


class Machine:
    """`node` gives the namespace and the cgroup; nothing runs before boot()."""

    def __init__(self, node, root):
        self.node = node
        self.base = pathlib.Path(root)
        self.root = self.base / "root"
        self.cgroup = node.cgroup / "machine"

    def prepare(self):
        """The file system: this machine's, with a layer for the changes."""
        for name in ("root", "changes", "work"):
            (self.base / name).mkdir(parents=True)
        sh("mount", "-t", "overlay", "overlay", "-o",
           f"lowerdir=/,upperdir={self.base}/changes,workdir={self.base}/work", self.root)
        self.write("etc/systemd/system/weir-test.target", BOOT_TARGET)
        self.write("etc/fstab", "")

    def write(self, path, text):
        full = self.root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text)

    def boot(self):
        self.cgroup.mkdir(parents=True, exist_ok=True)
        log = open(self.node.run / "machine.log", "wb")

        def enter():
            (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))

        self.supervisor = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--capability=all",
             "--system-call-filter=bpf perf_event_open setns", "--resolv-conf=off", "--timezone=off",
             f"--network-namespace-path=/run/netns/{self.node.netns}", "--machine=weir-test",
             f"--directory={self.root}", "--console=read-only", "--boot",
             "systemd.unit=weir-test.target"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=enter, start_new_session=True,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
                 "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes"})
        log.close()
        remedy = f"look at {self.node.run}/machine.log"
        self.leader = wait_until("the machine's first process", remedy, self._find_leader)
        wait_until("the machine is up", remedy, lambda: self.run(
            "systemctl", "is-active", "weir-test.target", check=False).strip() == "active")
        # On a whole machine systemd does that itself; in a container it leaves it out.
        self.run("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")

    def _find_leader(self):
        procs = self.cgroup / "payload" / "init.scope" / "cgroup.procs"
        return next(iter(procs.read_text().split()), None) if procs.exists() else None

    def run(self, *words, check=True):
        """Runs a command inside; it counts as none of the machine's units."""
        return sh("nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid",
                  "--cgroup", *words, check=check)

    def property(self, unit, name):
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()


def remove_root(base):
    """Also the one that a killed run left. The machine's processes must be gone."""
    root = pathlib.Path(base) / "root"
    while subprocess.run(["mountpoint", "-q", str(root)], check=False).returncode == 0:
        sh("umount", root)
    sh("rm", "-rf", base)

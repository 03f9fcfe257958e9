"""What the tests between the benchmark's pairs of namespaces share: one pair with two agents,
loads from weir_load, and what the agents say of themselves."""
import json
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
for directory in ("demo", "benchmark"):
    sys.path.insert(0, str(HERE.parent.parent / "scripts" / directory))

from bed import children, prepare, run_time_ns, sh, sweep  # noqa: E402
from topology import cgroup2_root, wait_until  # noqa: E402

SIDES = ("client", "server")


def unmount_below(directory):
    """Also what a killed run left."""
    points = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((p for p in points if p.startswith(f"{directory}/")), key=len, reverse=True):
        subprocess.run(["umount", "-l", point], check=False)


def bring_up(case, kind, prefix, run, binaries):
    """A ready pair of `kind` for the class `case`, removed when its tests are over."""
    cgroup = cgroup2_root() / prefix
    unmount_below(run)
    prepare(prefix, run, cgroup)
    case.addClassCleanup(sweep, prefix, run, cgroup)
    case.addClassCleanup(unmount_below, run)
    kind.agent, kind.cli = binaries / "weir-agent", binaries / "weir"
    kind.generator = binaries / "weir_load"
    (run / "agent-binary").write_text(str(kind.agent))
    pair = kind(3, prefix, run, cgroup)
    case.addClassCleanup(pair.down)
    pair.up()
    pair.wait_ready(40)
    return pair


class AgentsMixin:
    """For a pair with an agent on each side: what they say and use."""

    def status(self, side):
        return json.loads(sh(self.cli, "--socket", self.run / f"{side}.sock", "status", "-o", "json"))

    def metrics(self, side):
        return sh("curl", "-sf", "--unix-socket", self.run / f"{side}.sock", "http://weir/metrics")

    def metric(self, side, name, *labels):
        """The sum of the samples that have all these labels; without `_total`."""
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.metrics(side).splitlines()
                   if re.match(rf"{name}(_total)?[{{ ]", line) and all(label in line for label in labels))

    def agent_pid(self, side):
        return self.proxies[SIDES.index(side)].pid

    def resident_kib(self, side):
        status = pathlib.Path(f"/proc/{self.agent_pid(side)}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def cpu_seconds(self):
        return run_time_ns(self.proxy_pids()) / 1e9

    def run_load(self, mode, connections, seconds, extra=None):
        """What weir_load printed in the end; `target` is the pair's."""
        load = self.load(self.generator, mode, connections, seconds, extra)
        return json.loads(load.communicate(timeout=seconds + 90)[0].splitlines()[-1])

    def spans_queue(self, side):
        """The agent's own account of its spans; it must add up whenever it is asked for."""
        queue = next(q for q in self.status(side)["queues"] if q["name"] == "spans")
        figures = {key: int(queue.get(key, 0)) for key in ("generated", "exported", "dropped", "queued")}
        if figures["generated"] != figures["exported"] + figures["dropped"] + figures["queued"]:
            raise AssertionError(f"{side}: {figures}")
        return figures


__all__ = ["AgentsMixin", "HERE", "SIDES", "bring_up", "children", "sh", "time", "unmount_below", "wait_until"]

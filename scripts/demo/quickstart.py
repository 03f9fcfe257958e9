"""The quickstart's steps after the build; see scripts/quickstart --help."""
import argparse
import os
import pathlib
import signal
import subprocess
import sys
import time

from crm_mesh import CUSTOMERS, LEARNING, SPANS_PER_REQUEST, CrmMesh
from topology import StepFailed, wait_until

RUN = pathlib.Path("/run/weir-quickstart")
PREFIX = "weir-quickstart"
REQUESTS = 300
STEPS = 9


class Progress:
    def __init__(self, first):
        self.number = first
        self.start = float(os.environ.get("WEIR_QUICKSTART_START", time.time()))

    def __call__(self, text):
        self.number += 1
        print(f"\n[{self.number}/{STEPS}] {text}  ({time.time() - self.start:.0f} s)", flush=True)


def show(mesh, *words):
    print(f"\n$ weir {' '.join(words)}        # on both nodes")
    print(mesh.weir_everywhere(*words).rstrip())


def one_whole_trace(mesh):
    """The newest trace of which all spans have arrived."""
    for trace, spans in mesh.spans_by_trace().items():
        if spans == SPANS_PER_REQUEST:
            return trace
    return None


def run(mesh, progress, keep):
    progress("making two nodes with their pods, and the configuration of the mesh")
    mesh.topology.up()
    mesh.write_configuration()

    progress("starting one agent per node; every pod is in the mesh before its service runs")
    mesh.start_agents()

    progress("starting the CRM application: six services, two languages, nginx and Redis")
    mesh.start_application()
    wait_until("one answer through the gateway", f"look at the logs in {RUN}",
               lambda: mesh.request("/customers/1")[0] == 200)

    progress(f"sending {REQUESTS} requests from outside, with the link between the nodes captured")
    capture = mesh.start_capture()
    # One after the other until the agents have learnt whose commands Redis gets, then 8 at a time.
    failed = mesh.send_load(LEARNING, connections=1) + mesh.send_load(REQUESTS - LEARNING)
    if failed:
        raise StepFailed(f"{failed} of {REQUESTS} requests failed",
                         f"weir --socket {mesh.nodes['node-a'].socket} flows 'status>=500 or verdict=error'")
    captured, found = mesh.stop_capture(capture)
    print(f"{REQUESTS} of {REQUESTS} answered 200, for example:",
          mesh.request("/customers/1")[1])

    progress("what the agents saw")
    print("\n$ weir status        # on node-a")
    print(mesh.weir("node-a", "status").rstrip())
    show(mesh, "flows", "--last", "8")
    trace = wait_until("a trace across the services", "weir status shows the span queue",
                       lambda: one_whole_trace(mesh))
    show(mesh, "traces", trace)
    show(mesh, "map")

    progress("proof: nothing readable on the wire between the nodes")
    if captured < 10_000:
        raise StepFailed(f"only {captured} bytes crossed the link: nothing is proved",
                         "run again; is another tool moving the traffic?")
    if found:
        raise StepFailed(f"found in the clear on the wire: {', '.join(found)}",
                         "keep the capture and report it")
    print(f"searched {captured:,} captured bytes for the customers' names "
          f"({', '.join(CUSTOMERS.values())}), HTTP and trace headers: none found; "
          "the gateway's answer above had them.")
    if keep:
        print(f"""
Left running. Try:
  sudo weir --socket {mesh.nodes['node-a'].socket} flows -f
  sudo weir --socket {mesh.nodes['node-b'].socket} flows 'dst=crm/crm-database'
  sudo ip netns exec {mesh.client.netns} curl -s {mesh.gateway_url}/customers/2
  sudo ./scripts/quickstart --clean        # removes everything""".replace("sudo weir", f"sudo {mesh.cli}"))
    else:
        progress("cleaning up")
        mesh.topology.down()
        print("nothing is left: no process, namespace, cgroup or BPF program of this run.")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--first-step", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--clean", action="store_true")
    options = parser.parse_args()
    mesh = CrmMesh(PREFIX, RUN, pathlib.Path(options.bin, "weir-agent"), pathlib.Path(options.bin, "weir"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.clean:
        mesh.topology.down()
        return 0
    done = False
    try:
        run(mesh, Progress(options.first_step), options.keep)
        done = True
    except StepFailed as failure:
        print(f"\nfailed: {failure}\ntry: {failure.remedy}", file=sys.stderr)
        logs = pathlib.Path("/tmp/weir-quickstart-logs")
        logs.mkdir(exist_ok=True)
        subprocess.run(["sh", "-c", f"cp {RUN}/*.log {logs}/ 2>/dev/null"], check=False)
        print(f"the logs are kept in {logs}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\ninterrupted; cleaning up", file=sys.stderr)
    finally:
        if not (done and options.keep):
            mesh.topology.down()
    return 0 if done else 1


sys.exit(main())

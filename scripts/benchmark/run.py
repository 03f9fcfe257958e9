"""Runs the benchmarks of scripts/bench: every variant alive at once, visited in rotation,
`--rounds` times; prints a table of medians with ratios and writes all figures as JSON."""
import argparse
import json
import os
import pathlib
import platform
import signal
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "demo"))

from bed import Pair, prepare, sweep  # noqa: E402
from measure import measure  # noqa: E402
from peers import EnvoyHttpPair, EnvoyTcpPair, HaproxyPair, NginxPair, ProxyPair, make_certificates  # noqa: E402
from topology import cgroup2_root  # noqa: E402
from weir_pair import WeirHttpPair, WeirTcpPair  # noqa: E402

PREFIX = "weir-bench"
RUN = pathlib.Path("/run/weir-bench")
TCP = [Pair, WeirTcpPair, HaproxyPair, NginxPair, EnvoyTcpPair]
HTTP = [Pair, WeirHttpPair, EnvoyHttpPair]
# name: (load mode, connections, rate, unit of work, variants)
BENCHMARKS = {
    "req-small-l4-c32": ("closed", 32, None, "request", TCP),
    "req-small-http-c32": ("closed", 32, None, "request", HTTP),
    "conn-rate-c16": ("connect", 16, None, "connection", TCP),
    "req-paced-2000": ("paced", 32, 2000, "request", TCP),
    "bulk-c1": ("bulk", 1, None, "GB", TCP),
    "idle-10000": ("idle", 10000, None, "s idle", TCP),
}


def summarise(rows):
    """Median and spread of each figure over the rounds."""
    keys = rows[0].keys()
    return {key: {"median": statistics.median(values), "min": min(values), "max": max(values)}
            for key in keys if (values := [row[key] for row in rows if key in row])}


def ratio(ours, theirs):
    """Median over the rounds of ours/theirs, each pair from the same round."""
    pairs = [a["cpu_us"] / b["cpu_us"] for a, b in zip(ours, theirs)
             if a.get("cpu_us") and b.get("cpu_us")]
    return statistics.median(pairs) if pairs else None


def report(name, unit, results):
    print(f"\n{name}")
    pace = "held" if "idle" in unit else "rate/s"
    print(f"  {'variant':<12} {'CPU us/' + unit:>18} {'[min-max]':>20} {pace:>10} {'p50 us':>8} {'p99 us':>8}"
          f" {'errors':>7} {'KiB/side':>9}  ratio weir/it")
    ours = next((rows for variant, rows in results.items() if variant.startswith("weir")), None)
    for variant, rows in results.items():
        s = summarise(rows)
        cpu = s.get("cpu_us")
        memory = f"{s['memory_kib']['median']:.2f}" if "memory_kib" in s else "-"
        against = ratio(ours, rows) if ours is not None and rows is not ours else None
        print(f"  {variant:<12} {cpu['median'] if cpu else 0:>18.1f}"
              f" {(str(round(cpu['min'], 1)) + '-' + str(round(cpu['max'], 1))) if cpu else '-':>20}"
              f" {s['rate']['median']:>10.1f} {s['p50_us']['median']:>8.0f} {s['p99_us']['median']:>8.0f}"
              f" {s['errors']['max']:>7.0f} {memory:>9}  {f'x{against:.2f}' if against else '-'}")


def main():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--bin", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--envoy", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--json", default="build/bench.json", help="where all figures go")
    parser.add_argument("benchmarks", nargs="*", help=f"default: all of {', '.join(BENCHMARKS)}")
    options = parser.parse_args()
    unknown = set(options.benchmarks) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    wanted = options.benchmarks or list(BENCHMARKS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cgroup = cgroup2_root() / PREFIX
    prepare(PREFIX, RUN, cgroup)
    agent = pathlib.Path(options.bin, "weir-agent").resolve()
    (RUN / "agent-binary").write_text(str(agent))
    ProxyPair.certificates = RUN
    ProxyPair.envoy = options.envoy
    WeirTcpPair.agent, WeirTcpPair.cli = agent, pathlib.Path(options.bin, "weir").resolve()
    kinds = []
    for name in wanted:
        kinds += [k for k in BENCHMARKS[name][4] if k not in kinds and (options.envoy or "envoy" not in k.name)]
    pairs = {}
    results = {}
    try:
        make_certificates(RUN)
        for number, kind in enumerate(kinds, start=1):
            pairs[kind.name] = kind(number, PREFIX, RUN, cgroup)
            pairs[kind.name].up()
            pairs[kind.name].wait_ready()
            print(f"{kind.name}: ready ({kind.what})", flush=True)
        generator = pathlib.Path(options.bin, "weir_load").resolve()
        for name in wanted:
            mode, connections, rate, _, variants = BENCHMARKS[name]
            rows = results[name] = {k.name: [] for k in variants if k.name in pairs}
            rounds = min(options.rounds, 2) if mode == "idle" else options.rounds
            for done in range(rounds):
                for variant in rows:
                    rows[variant].append(measure(pairs[variant], generator, mode, connections, rate,
                                                 options.seconds))
                print(f"{name}: round {done + 1}/{rounds}", file=sys.stderr, flush=True)
    finally:
        for pair in pairs.values():
            pair.down()
        sweep(PREFIX, RUN, cgroup)
    for name in wanted:
        report(name, BENCHMARKS[name][3], results[name])
    machine = {"kernel": platform.release(), "cpus": os.cpu_count(), "rounds": options.rounds,
               "seconds": options.seconds}
    pathlib.Path(options.json).write_text(json.dumps({"machine": machine, "results": results}, indent=1))
    print(f"\nkernel {machine['kernel']}, {machine['cpus']} CPUs, {options.rounds} rounds of {options.seconds} s,"
          f" variants in rotation; CPU is the scheduler's run time of the proxies. All figures: {options.json}")
    return 0


sys.exit(main())

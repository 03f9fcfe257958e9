"""Runs the benchmarks of scripts/bench: every variant alive at once, visited in rotation,
`--rounds` times; prints a table of medians with ratios and writes all figures as JSON."""
import argparse
import dataclasses
import json
import os
import pathlib
import platform
import signal
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "demo"))

from bed import Http2Pair, Pair, prepare, sweep  # noqa: E402
from measure import measure  # noqa: E402
from peers import (EnvoyHttp2Pair, EnvoyHttpPair, EnvoyTcpPair, HaproxyPair, NginxPair,  # noqa: E402
                   ProxyPair, make_certificates)
from topology import cgroup2_root  # noqa: E402
from weir_pair import WeirHttp2Pair, WeirHttpPair, WeirTcpPair, WeirUntracedPair  # noqa: E402

PREFIX = "weir-bench"
RUN = pathlib.Path("/run/weir-bench")
TCP = [Pair, WeirTcpPair, HaproxyPair, NginxPair, EnvoyTcpPair]
HTTP = [Pair, WeirHttpPair, EnvoyHttpPair]
HTTP2 = [Http2Pair, WeirHttp2Pair, EnvoyHttp2Pair]
SPAN_COST_GOAL_US = 5  # a request and proxy


@dataclasses.dataclass(frozen=True)
class Benchmark:
    mode: str  # of weir_load
    connections: int
    extra: int | None  # its rate, or its streams
    unit: str  # of work
    variants: list
    what: str


BENCHMARKS = {
    "req-small-l4-c32": Benchmark("closed", 32, None, "request", TCP, "HTTP/1.1 passed on as bytes"),
    "req-small-http-c32": Benchmark("closed", 32, None, "request", HTTP, "HTTP/1.1, every request traced"),
    "span-cost": Benchmark("closed", 32, None, "request", [Pair, WeirHttpPair, WeirUntracedPair],
                           "the same with all spans exported, and with none made"),
    "h2-req": Benchmark("h2", 4, 8, "request", HTTP2, "HTTP/2, 4 connections of 8 streams, every request traced"),
    "grpc-stream": Benchmark("grpc", 4, 8, "message", HTTP2,
                             "gRPC streams of 100 messages each way, 4 connections of 8 streams, traced"),
    "conn-rate-c16": Benchmark("connect", 16, None, "connection", TCP, "one request a connection"),
    "req-paced-2000": Benchmark("paced", 32, 2000, "request", TCP, "2,000 requests a second"),
    "bulk-c1": Benchmark("bulk", 1, None, "GB", TCP, "64 MiB answers on one connection"),
    "idle-10000": Benchmark("idle", 10000, None, "s idle", TCP, "idle connections (4,000 for the peers)"),
}


def summarise(rows):
    """Median and spread of each figure over the rounds."""
    keys = rows[0].keys()
    return {key: {"median": statistics.median(values), "min": min(values), "max": max(values)}
            for key in keys if (values := [row[key] for row in rows if key in row])}


def ratio(ours, theirs, key):
    """Median and spread over the rounds of ours/theirs, each pair from the same round."""
    pairs = [{"it": a[key] / b[key]} for a, b in zip(ours, theirs) if a.get(key) and b.get(key)]
    return summarise(pairs)["it"] if pairs else None


def span_cost(results):
    """CPU in us that a request's spans cost each of the two proxies."""
    return summarise([{"it": (traced["cpu_us"] - without["cpu_us"]) / 2} for traced, without in
                      zip(results[WeirHttpPair.name], results[WeirUntracedPair.name])])["it"]


def summary(results):
    """What the table shows of one benchmark."""
    ours = next((rows for variant, rows in results.items() if variant.startswith("weir")), None)
    direct = next((rows for variant, rows in results.items() if variant.startswith("direct")), None)
    table = {}
    for variant, rows in results.items():
        table[variant] = summarise(rows)
        if ours is not None and rows is not ours:
            table[variant]["weir_cpu_ratio"] = ratio(ours, rows, "cpu_us")
        if direct is not None and rows is not direct:
            table[variant]["direct_rate_ratio"] = ratio(rows, direct, "rate")
            table[variant]["direct_p50_ratio"] = ratio(rows, direct, "p50_us")
    return table


def span(figures, form):
    return f"[{form.format(figures['min'])}-{form.format(figures['max'])}]"


def report(name, unit, results):
    print(f"\n{name}")
    pace = "held" if "idle" in unit else "rate/s"
    print(f"  {'variant':<12} {'CPU us/' + unit:>18} {'[min-max]':>20} {pace:>10} {'of direct':>9} {'p50 us':>8}"
          f" {'p99 us':>8} {'errors':>7} {'KiB/side':>9}  ratio weir/it [min-max]")
    for variant, s in summary(results).items():
        cpu = s.get("cpu_us")
        memory = f"{s['memory_kib']['median']:.2f}" if "memory_kib" in s else "-"
        direct, against = s.get("direct_rate_ratio"), s.get("weir_cpu_ratio")
        print(f"  {variant:<12} {cpu['median'] if cpu else 0:>18.1f} {span(cpu, '{:.1f}') if cpu else '-':>20}"
              f" {s['rate']['median']:>10.1f} {'{:.2f}x'.format(direct['median']) if direct else '-':>9}"
              f" {s['p50_us']['median']:>8.0f} {s['p99_us']['median']:>8.0f}"
              f" {s['errors']['max']:>7.0f} {memory:>9}"
              f"  {'x{:.2f} '.format(against['median']) + span(against, '{:.2f}') if against else '-'}")
    if name == "span-cost":
        cost = span_cost(results)
        print(f"  spans cost {cost['median']:.1f} us a request and proxy {span(cost, '{:.1f}')};"
              f" the goal is at most {SPAN_COST_GOAL_US}")


def main():
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="benchmarks, and what they are compared with:\n" + "\n".join(
            f"  {name:<20} {one.what}\n{'':23}({', '.join(kind.name for kind in one.variants)})"
            for name, one in BENCHMARKS.items()))
    parser.add_argument("--bin", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--envoy", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3, help="of each benchmark (3; of idle-10000 2 at most)")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement (3)")
    parser.add_argument("--json", default="build/bench.json", help="where all figures go (build/bench.json)")
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help="which to run (all)")
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
    generator = Pair.generator = pathlib.Path(options.bin, "weir_load").resolve()
    kinds = []
    for name in wanted:
        kinds += [k for k in BENCHMARKS[name].variants if k not in kinds and (options.envoy or "envoy" not in k.name)]
    pairs = {}
    results = {}
    try:
        make_certificates(RUN)
        for number, kind in enumerate(kinds, start=1):
            pairs[kind.name] = kind(number, PREFIX, RUN, cgroup)
            pairs[kind.name].up()
            pairs[kind.name].wait_ready()
            print(f"{kind.name}: ready ({kind.what})", flush=True)
        for name in wanted:
            benchmark = BENCHMARKS[name]
            rows = results[name] = {k.name: [] for k in benchmark.variants if k.name in pairs}
            rounds = min(options.rounds, 2) if benchmark.mode == "idle" else options.rounds
            for done in range(rounds):
                # There and back: what drifts meets all alike.
                for variant in list(rows)[::-1 if done % 2 else 1]:
                    rows[variant].append(measure(pairs[variant], generator, benchmark, options.seconds))
                print(f"{name}: round {done + 1}/{rounds}", file=sys.stderr, flush=True)
    finally:
        for pair in pairs.values():
            pair.down()
        sweep(PREFIX, RUN, cgroup)
    for name in wanted:
        report(name, BENCHMARKS[name].unit, results[name])
    machine = {"kernel": platform.release(), "cpus": os.cpu_count(), "rounds": options.rounds,
               "seconds": options.seconds}
    pathlib.Path(options.json).write_text(json.dumps(
        {"machine": machine, "results": results, "summary": {name: summary(results[name]) for name in wanted},
         **({"span_cost_us": span_cost(results["span-cost"])} if "span-cost" in results else {})}, indent=1))
    print(f"\nkernel {machine['kernel']}, {machine['cpus']} CPUs, {options.rounds} rounds of {options.seconds} s,"
          f" variants in rotation; CPU is the scheduler's run time of the proxies. All figures: {options.json}")
    return 0


sys.exit(main())

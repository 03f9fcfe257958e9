"""One measurement of one pair: the load generator's figures, and what the proxies used."""
import json
import sys
import time

from bed import anonymous_kib, run_time_ns


def measure(pair, generator, benchmark, seconds):
    if benchmark.mode == "idle":
        return measure_idle(pair, generator, min(benchmark.connections, pair.most_connections), seconds)
    pids = pair.proxy_pids()
    spans = pair.spans_offered()
    load = pair.load(generator, benchmark.mode, benchmark.connections, seconds, benchmark.extra)
    load.stdout.readline()  # the warm-up is over
    before = run_time_ns(pids)
    out, _ = load.communicate(timeout=seconds + 60)
    cpu = run_time_ns(pids) - before
    result = json.loads(out)
    work = result["bytes"] / 1e9 if benchmark.mode == "bulk" else result["units"]
    row = {"rate": work / result["seconds"], "errors": result["errors"],
           "p50_us": result["p50_us"], "p99_us": result["p99_us"]}
    if benchmark.mode != "bulk":  # its last answers are cut off
        row["errors"] += result["sent"] - result["answered"]
        # Each request is a span of each proxy that makes them, and none may be lost.
        row["errors"] += pair.spans_missing(spans, result["requests"])
    if work:
        row["cpu_us"] = cpu / 1e3 / work
    say_why(pair, row, result)
    return row


def say_why(pair, row, result):
    if row["errors"]:
        print(f"{pair.name}: {row['errors']} errors; the load says {result}, the proxies {pair.failures()}",
              file=sys.stderr, flush=True)


def measure_idle(pair, generator, connections, seconds):
    """Each connection is answered once, held open, and answered once more; memory and CPU
    are of the time between."""
    pids = pair.proxy_pids()
    memory = anonymous_kib(pids)
    load = pair.load(generator, "idle", connections, seconds + 2)
    held = json.loads(load.stdout.readline())["held"]
    time.sleep(1)  # what the opening left to do
    memory = (anonymous_kib(pids) - memory) / connections / 2
    before, began = run_time_ns(pids), time.monotonic()
    time.sleep(seconds)
    cpu = (run_time_ns(pids) - before) / 1e3 / (time.monotonic() - began)
    result = json.loads(load.communicate(timeout=seconds + 120)[0])
    missing = 2 * connections - result["answered"]
    row = {"rate": held, "errors": result["errors"] + missing, "p50_us": result["p50_us"],
           "p99_us": result["p99_us"], "memory_kib": memory, "cpu_us": cpu}
    say_why(pair, row, result)
    return row

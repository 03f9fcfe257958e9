#!/usr/bin/env python3
"""Writes the dashboards beside it from the tables below; --check only says whether they are up to date.

Every query is evaluated by tests/e2e/dashboards_e2e.py: a panel without data there is an error.
"""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
IN = 'cluster=~"$cluster",direction="in",destination=~"$namespace(/.*)?"'
OUT = 'cluster=~"$cluster",direction="out",source=~"$namespace(/.*)?"'
ANY = 'cluster=~"$cluster"'
TO = 'cluster=~"$cluster",direction="in",destination="$workload"'
FROM = 'cluster=~"$cluster",direction="out",source="$workload"'
PAIR = 'cluster=~"$cluster",source="$source",destination="$destination"'
R = "[$__rate_interval]"


def rate(metric, labels, by="", window=R):
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{{{labels}}}{window}))"


def share_ok(labels, by=""):
    """Share of requests that were allowed and not answered with an error of HTTP, gRPC or a database."""
    bad = f'weir_requests_total{{{labels},code!~"5xx|error",verdict!~"deny|error"}}'
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({bad}{R})) / {rate('weir_requests_total', labels, by)}"


def quantile(share, labels, by=""):
    return f"histogram_quantile({share}, {rate('weir_request_duration_seconds_bucket', labels, 'le' + (', ' + by if by else ''))})"


def quantiles(labels):
    return [(quantile(share, labels), name) for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))]


def p(title, description, targets, unit="short", kind="timeseries"):
    if isinstance(targets, str):
        targets = [(targets, "__auto")]
    return {"title": title, "description": description, "targets": targets, "unit": unit, "kind": kind}


CLEAR = 'source!="outside",destination!="outside",mtls="off",verdict!~"deny|error"'

DASHBOARDS = {
    "mesh": ("weir / Mesh", "The whole mesh. Next: one workload. On a node: weir map", [], [
        p("Requests a second", "Counted where they arrive. weir map", rate("weir_requests_total", IN), "reqps"),
        p("Success", "Share of requests that were allowed and not answered with an error: 5xx, or one of gRPC or a database. weir flows 'status>=500'", share_ok(IN), "percentunit"),
        p("Duration", "From a request's first byte to its answer's last. weir traces --slow 200ms", quantiles(IN), "s"),
        p("Unencrypted pairs", "Pairs of mesh workloads that spoke in the clear. weir flows 'mtls=off'",
          f'count(sum by (source, destination) (increase(weir_requests_total{{{ANY},{CLEAR}}}[1h]) > 0 or increase(weir_connections_total{{{ANY},{CLEAR}}}[1h]) > 0)) or vector(0)', kind="stat"),
        p("Unencrypted pairs by name", "Empty is well. weir flows 'src=SOURCE and dst=DESTINATION and mtls=off'",
          f'sum by (source, destination) (increase(weir_requests_total{{{ANY},{CLEAR}}}[1h]) > 0 or increase(weir_connections_total{{{ANY},{CLEAR}}}[1h]) > 0)', kind="table"),
        p("Refused a second, by reason", "What policy and TLS kept out. weir flows 'verdict=deny'",
          f'sum by (reason) (rate(weir_connections_total{{{ANY},verdict="deny"}}{R}) or rate(weir_requests_total{{{ANY},verdict="deny"}}{R})) or vector(0)', "cps"),
        p("Most errors", "The ten pairs with the most failed requests a second. weir flows 'status>=500 or verdict=error'",
          f'topk(10, sum by (source, destination) (weir:request_errors:rate5m{{{IN}}}))', "reqps", "table"),
        p("Slowest", "The ten pairs with the highest p99. weir traces --slow 200ms", f'topk(10, weir:request_duration_seconds:p99_5m{{{IN}}})', "s", "table"),
        p("Growth against a week ago", "The ten destinations whose rate grew most, as a factor.",
          f'topk(10, {rate("weir_requests_total", IN, "destination", "[1h]")} / {rate("weir_requests_total", IN, "destination", "[1h] offset 1w")})', "none", "table"),
        p("Who calls whom", "The edges of the mesh with their rates, for the node graph. weir map",
          f'sum by (source, destination) (weir:requests:rate5m{{{IN}}})', "reqps", "nodeGraph"),
    ]),
    "workload": ("weir / Workload", "One workload. Next: one pair of workloads. On its node: weir flows, weir traces", ["workload"], [
        p("Inbound requests a second, by caller", "weir flows 'dst=WORKLOAD and dir=in'", rate("weir_requests_total", TO, "source"), "reqps"),
        p("Inbound success, by caller", "Allowed and not answered with an error: 5xx, or one of gRPC or a database.", share_ok(TO, "source"), "percentunit"),
        p("Inbound duration", "As seen in front of the workload. weir traces --service WORKLOAD", quantiles(TO), "s"),
        p("Outbound requests a second, by destination", "weir flows 'src=WORKLOAD and dir=out'", rate("weir_requests_total", FROM, "destination"), "reqps"),
        p("Outbound success, by destination", "Allowed and not answered with an error: 5xx, or one of gRPC or a database.", share_ok(FROM, "destination"), "percentunit"),
        p("Outbound p99, by destination", "As seen behind the workload.", quantile(0.99, FROM, "destination"), "s"),
        p("Outbound database errors a second, by destination", "Commands that a database answered with an error. weir traces --errors --service WORKLOAD",
          rate("weir_requests_total", FROM + ',protocol=~"postgresql|mysql|redis",code="error"', "destination, protocol") + " or vector(0)", "cps"),
        p("Answers by class", "none: no answer was seen; error: of gRPC or a database.", f'sum by (code) (increase(weir_requests_total{{{TO}}}{R}))', "short", "status-history"),
        p("Protocol found", "Requests and other connections that arrive, by what they speak.", f'sum by (protocol) (rate(weir_requests_total{{{TO}}}{R}) or rate(weir_connections_total{{{TO}}}{R}))', "cps"),
        p("Failures by cause", "Requests either way that ended other than well. weir flows 'workload=WORKLOAD and verdict in (deny, error)'",
          f'sum by (direction, reason) (rate(weir_requests_total{{{TO}}}{R}) or rate(weir_requests_total{{{FROM}}}{R}))', "reqps"),
        p("Connections ended a second, by cause", "Connections that are not HTTP, either way.",
          f'sum by (direction, reason) (rate(weir_connections_total{{{TO}}}{R}) or rate(weir_connections_total{{{FROM}}}{R}))', "cps"),
    ]),
    "pair": ("weir / A to B", "One pair of workloads. On the node of either: weir flows 'src=SOURCE and dst=DESTINATION'", ["source", "destination"], [
        p("Requests a second, at both ends", "They differ by what was lost or refused between.", rate("weir_requests_total", PAIR, "direction"), "reqps"),
        p("Errors by cause", "Other than allowed, or answered with an error: 5xx, or one of gRPC or a database. weir flows 'src=SOURCE and dst=DESTINATION and (status>=500 or verdict=error)'",
          f'sum by (direction, reason, code) (rate(weir_requests_total{{{PAIR},code=~"5xx|error"}}{R}) or rate(weir_requests_total{{{PAIR},verdict=~"deny|error"}}{R})) or sum by (direction) (rate(weir_requests_total{{{PAIR}}}{R})) * 0', "reqps"),
        p("Duration at both ends", "p99; exemplars lead to traces.", quantile(0.99, PAIR, "direction"), "s"),
        p("Difference of the ends", "Mean duration at the caller's less that at the callee's: network and tunnel.",
          "sum(rate(weir_request_duration_seconds_sum{%s,direction=\"out\"}%s)) / sum(rate(weir_request_duration_seconds_count{%s,direction=\"out\"}%s)) - sum(rate(weir_request_duration_seconds_sum{%s,direction=\"in\"}%s)) / sum(rate(weir_request_duration_seconds_count{%s,direction=\"in\"}%s))" % (PAIR, R, PAIR, R, PAIR, R, PAIR, R), "s"),
        p("Encryption", "mtls: tunnel between nodes; local: joined on one node; off: in the clear.", rate("weir_requests_total", PAIR, "mtls"), "reqps"),
        p("Connections ended a second", "Those that are not HTTP.", rate("weir_connections_total", PAIR, "direction, reason"), "cps"),
        p("Bytes a second", "Of connections that are not HTTP, counted when they end.",
          [(rate("weir_connection_sent_bytes_total", PAIR, "direction"), "to destination, {{direction}}"), (rate("weir_connection_received_bytes_total", PAIR, "direction"), "from destination, {{direction}}")], "Bps"),
        p("Refused a second, by reason", "weir flows 'src=SOURCE and dst=DESTINATION and verdict=deny'",
          f'sum by (reason) (rate(weir_requests_total{{{PAIR},verdict="deny"}}{R}) or rate(weir_connections_total{{{PAIR},verdict="deny"}}{R})) or vector(0)', "cps"),
    ]),
    "trust": ("weir / Trust", "Certificates and refusals. On a node: weir status, weir check", [], [
        p("Seconds of certificates left, lowest 20", "weir status shows the next renewal.", f'bottomk(20, weir_certificate_expiry_timestamp_seconds{{{ANY}}} - time())', "s", "table"),
        p("Share of life used, highest 20", "Certificates are replaced long before 0.8.", f'topk(20, weir:certificate_life_used:ratio{{{ANY}}})', "percentunit", "table"),
        p("Workloads that got no certificate", "By the last attempt. weir status names the error.", f'sum by (instance) (weir_certificates_failing{{{ANY}}})'),
        p("Age of certificates", "Drops to 0 at each rotation.", f'time() - weir_certificate_start_timestamp_seconds{{{ANY}}}', "s"),
        p("Tunnels refused or broken, by reason", "TLS and identity failures between nodes. weir flows 'reason^=peer-'", rate("weir_tunnel_failures_total", ANY, "reason") + " or vector(0)", "cps"),
        p("Protocol violations of peers", "Each closes its tunnel.", rate("weir_tunnel_violations_total", ANY, "kind") + " or vector(0)", "cps"),
        p("Refusals by reason", "Connections and requests that were kept out. weir flows 'verdict=deny'",
          rate("weir_connection_failures_total", f'{ANY},reason=~"no-identity|unknown-destination|peer-.*|certificate-expired|plaintext-refused|witness-refused|policy-denied"', "reason") + " or vector(0)", "cps"),
        p("Tunnels open", "client: from this node; server: to it.", f'sum by (instance, role) (weir_tunnels{{{ANY}}})'),
    ]),
    "agent": ("weir / Agent", "The agents themselves. On a node: weir status, weir check", [], [
        p("Agents ready", "weir status says what is missing.", [(f'sum(weir_ready{{{ANY}}})', "ready"), (f'count(weir_ready{{{ANY}}})', "seen")], kind="stat"),
        p("Agents by version", "More than one only while upgrading.", f'count by (version) (weir_build_info{{{ANY}}})'),
        p("CPU for 1,000 requests", "Seconds of CPU for each 1,000 requests, by node.",
          f'1000 * sum by (instance) (rate(process_cpu_seconds_total{{{ANY}}}{R}) and on (instance) weir_build_info) / sum by (instance) (rate(weir_requests_finished_total{{{ANY}}}{R}))', "s"),
        p("Memory", "Resident, by node.", f'process_resident_memory_bytes{{{ANY}}} and on (instance) weir_build_info', "bytes"),
        p("Memory for a workload", "Resident memory divided by the enrolled workloads.", f'process_resident_memory_bytes{{{ANY}}} / on (instance) weir_enrolled_workloads', "bytes"),
        p("Memory of the limit", "Share of what the agent's cgroups let it have; empty without a limit.", f'process_resident_memory_bytes{{{ANY}}} / on (instance) weir_memory_limit_bytes', "percentunit"),
        p("Turns of the loops, p99", "How long a worker's event loop takes to get round.", f'histogram_quantile(0.99, sum by (instance, le) (rate(weir_loop_turn_seconds_bucket{{{ANY}}}{R})))', "s"),
        p("Waiting for tunnels, p99", "What the agents add to calls to other nodes before anything is sent. weir flows 'tunnel-wait>5ms'", f'histogram_quantile(0.99, sum by (instance, le) (rate(weir_tunnel_wait_seconds_bucket{{{ANY}}}{R})))', "s"),
        p("Connections open", "Of applications, by node.", f'sum by (instance) (weir_sessions{{{ANY}}})'),
        p("Workloads", "Enrolled, and named by the agents' configuration.", [(f'sum by (instance) (weir_enrolled_workloads{{{ANY}}})', "enrolled {{instance}}"), (f'sum by (instance) (weir_configured_workloads{{{ANY}}})', "configured {{instance}}")]),
        p("Fallbacks in use", "What the kernel does not offer, by feature. weir check --pre", f'count by (feature) (weir_feature_available{{{ANY}}} == 0) or vector(0)', kind="table"),
        p("Interception missing", "Hooks, lookups, listeners and probes that are not in place. weir check", f'sum by (instance, part) (weir_interception_missing{{{ANY}}})'),
        p("Telemetry lost a second", "Flow records, spans, log records and lines that found a queue full or were refused by their sink.",
          [(rate("weir_telemetry_dropped_total", ANY, "kind"), "queue: {{kind}}"), (rate("weir_export_dropped_total", ANY, "signal, reason"), "{{signal}}: {{reason}}"), (rate("weir_access_log_dropped_total", ANY, "reason"), "lines: {{reason}}")], "cps"),
        p("Exporter queue", "Bytes that wait for the collector, and for the telemetry thread.", [(f'sum by (instance, exporter, signal) (weir_export_queue_bytes{{{ANY}}})', "{{exporter}} {{signal}} {{instance}}"), (f'sum by (instance) (weir_telemetry_queue_bytes{{{ANY}}})', "inside {{instance}}")], "bytes"),
        p("Export requests", "By exporter, signal and result.", rate("weir_export_requests_total", ANY, "exporter, signal, result"), "reqps"),
        p("Label sets folded", "Flows counted under \"other\".", rate("weir_metrics_overflow_total", ANY, "instance"), "cps"),
        p("Age of the configuration", "Since the set in force was taken.", f'time() - weir_config_loaded_timestamp_seconds{{{ANY}}}', "s"),
        p("Configuration refused", "1 while the newest set is refused. weir config check DIRECTORY", f'weir_config_rejected{{{ANY}}}'),
        p("Descriptors used", "Share of the limit, and pauses of accepting.", [(f'process_open_fds{{{ANY}}} / process_max_fds and on (instance) weir_build_info', "share {{instance}}"), (rate("weir_accept_pauses_total", ANY, "instance"), "pauses {{instance}}")], "percentunit"),
    ]),
    "causality": ("weir / Causality", "How the parents of spans were found. On a node: weir traces ID, weir map", [], [
        p("Requests by parent source", "Of calls that leave a workload.", rate("weir_request_parents_total", ANY + ',direction="out"', "parent"), "reqps"),
        p("Share with a parent", "Of calls that leave a workload.",
          rate("weir_request_parents_total", ANY + ',direction="out",parent!="none"') + " / " + rate("weir_request_parents_total", ANY + ',direction="out"'), "percentunit"),
        p("Answers of the kernel", "What the causality program found for calls without headers; a parent only for turn and sole.", rate("weir_kernel_events_total", ANY + ',hook="parent"', "reason"), "cps"),
        p("Spans a second", "Made, and given to the consumers.", [(rate("weir_telemetry_generated_total", ANY + ',kind="span"'), "made"), (rate("weir_telemetry_delivered_total", ANY + ',kind="span"'), "delivered"), (rate("weir_export_exported_total", ANY + ',signal="traces"'), "exported")], "cps"),
        p("Spans lost a second, by cause", "queue: before the telemetry thread; the others: on the way to the collector.",
          [(rate("weir_telemetry_dropped_total", ANY + ',kind="span"'), "queue"), (rate("weir_export_dropped_total", ANY + ',signal="traces"', "reason"), "{{reason}}")], "cps"),
    ]),
}


def variable(name, label, query, multi, regex=""):
    one = {"name": name, "label": label, "type": "query", "datasource": {"type": "prometheus", "uid": "${datasource}"},
           "query": {"query": query, "refId": name}, "regex": regex, "refresh": 2, "sort": 1, "includeAll": multi, "multi": False}
    if multi:
        one |= {"allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    return one


def variables(extra):
    found = [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
             variable("cluster", "Cluster", "label_values(weir_ready, cluster)", True),
             variable("namespace", "Namespace", "label_values(weir_requests_total, destination)", True, "/(.*)\\/.*/")]
    known = {"workload": "destination", "source": "source", "destination": "destination"}
    for name in extra:
        query = f'label_values(weir_requests_total{{cluster=~"$cluster",{known[name]}=~"$namespace(/.*)?"}}, {known[name]})'
        found.append(variable(name, name.capitalize(), query, False))
    return found


def panel(number, spec):
    source = {"type": "prometheus", "uid": "${datasource}"}
    instant = spec["kind"] in ("table", "stat", "nodeGraph")
    targets = [{"refId": chr(ord("A") + i), "datasource": source, "expr": expr, "legendFormat": legend, "instant": instant,
                "range": not instant, "exemplar": "_bucket" in expr, "format": "table" if spec["kind"] in ("table", "nodeGraph") else "time_series"}
               for i, (expr, legend) in enumerate(spec["targets"])]
    one = {"id": number, "title": spec["title"], "description": spec["description"], "type": spec["kind"], "datasource": source,
           "gridPos": {"h": 8, "w": 8, "x": (number - 1) % 3 * 8, "y": (number - 1) // 3 * 8},
           "fieldConfig": {"defaults": {"unit": spec["unit"]}, "overrides": []}, "targets": targets}
    if spec["kind"] == "nodeGraph":
        one["transformations"] = [
            {"id": "calculateField", "options": {"mode": "reduceRow", "alias": "mainstat", "reduce": {"reducer": "sum", "include": ["Value"]}}},
            {"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}, "renameByName": {"destination": "target"}}}]
    return one


def dashboard(name):
    title, description, extra, panels = DASHBOARDS[name]
    links = [{"type": "link", "title": other_title, "url": f"/d/weir-{other}", "keepTime": True, "includeVars": True}
             for other, (other_title, _, _, _) in DASHBOARDS.items() if other != name]
    return {"uid": f"weir-{name}", "title": title, "description": description, "tags": ["weir"], "schemaVersion": 38, "version": 1,
            "editable": True, "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser", "links": links,
            "templating": {"list": variables(extra)}, "panels": [panel(i, spec) for i, spec in enumerate(panels, 1)]}


def main():
    stale = []
    for name in DASHBOARDS:
        path = HERE / f"{name}.json"
        text = json.dumps(dashboard(name), indent=1) + "\n"
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if "--check" not in sys.argv[1:]:
                path.write_text(text)
    if stale and "--check" in sys.argv[1:]:
        sys.exit(f"not up to date, run {HERE.name}/generate.py: {', '.join(stale)}")


if __name__ == "__main__":
    main()

"""The dashboards and rules of deploy/ against a recorded scrape, by Prometheus' own promtool:
every query is evaluated and gives data, every alert fires when it should and only then.

  python3 tests/e2e/dashboards_e2e.py [-v]

The scrape is of the agent of node-a in crm_e2e.py, which records it anew with --record FILE.
Needs no root and no network.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SCRAPE = HERE / "data" / "node-a.metrics"
RULES = [ROOT / "deploy" / "prometheus" / f"weir-{name}.yaml" for name in ("recording", "alerts")]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
VARIABLES = {"cluster": ".*", "namespace": ".*", "workload": "crm/crm-mobile", "source": "crm/crm-mobile",
             "destination": "crm/crm-conductor", "__rate_interval": "5m"}
SAMPLE = re.compile(r"^([a-z0-9_]+)(\{.*?\})? (\S+)(?: # .*)?$")
WEEK = 7 * 24 * 60  # minutes

PAIR = 'source="crm/crm-mobile",destination="crm/crm-conductor"'
# What the recorded run did not have, for the panels that show only that.
PROBLEMS = [
    f'weir_requests_total{{direction="out",{PAIR},protocol="http1",verdict="allow",reason="none",mtls="off",code="2xx"}} 0+5x200',
    f'weir_connections_total{{direction="out",{PAIR},protocol="opaque",verdict="allow",reason="none",mtls="mtls"}} 0+5x200',
    f'weir_connection_sent_bytes_total{{direction="out",{PAIR},protocol="opaque",verdict="allow",reason="none",mtls="mtls"}} 0+5x200',
    f'weir_connection_received_bytes_total{{direction="out",{PAIR},protocol="opaque",verdict="allow",reason="none",mtls="mtls"}} 0+5x200',
    # It had no limit of memory and no collector.
    'weir_memory_limit_bytes{instance="node-a"} 1e9x200',
    'weir_export_exported_total{exporter="collector",signal="traces"} 0+5x200',
    'weir_export_dropped_total{exporter="collector",signal="traces",reason="gave-up"} 0+5x200',
    'weir_export_requests_total{exporter="collector",signal="traces",result="failed"} 0+5x200',
    'weir_export_queue_bytes{exporter="collector",signal="traces"} 1000x200',
    # The other end of the pair is on the other node.
    f'weir_request_duration_seconds_sum{{direction="in",{PAIR}}} 0+1x200',
    f'weir_request_duration_seconds_count{{direction="in",{PAIR}}} 0+50x200',
]


def requests(pair, values, **labels):
    source, destination = pair
    known = {"direction": "in", "source": source, "destination": destination, "verdict": "allow", "mtls": "mtls", "code": "2xx"}
    return "weir_requests_total{%s} %s" % (",".join(f'{k}="{v}"' for k, v in (known | labels).items()), values)


def turns(family, cumulative):
    """A histogram whose buckets grow by so much a minute."""
    total = max(cumulative.values())
    return [f'{family}_bucket{{instance="n1",le="{le}"}} 0+{count}x200' for le, count in {**cumulative, "+Inf": total}.items()]


A_B = ("crm/a", "crm/b")
UP = 'weir_build_info{instance="n1",version="1"} 1x2000'
# alert -> (minute, series with which it fires then, series with which it just does not).
ALERTS = {
    "WeirAgentMissing": (40, ['weir_enrolled_workloads{instance="n1"} 3x20 _x200'],
                         ['weir_enrolled_workloads{instance="n1"} 0x20 _x200']),
    "WeirNotReady": (20, ["weir_ready 0x100"], ["weir_ready 0x15 1x100"]),
    "WeirHookLost": (10, ['weir_interception_missing{part="hook"} 0x5 1x100'],
                     ['weir_interception_missing{part="hook"} 0 1 0x100']),
    "WeirBypass": (10, ['weir_kernel_events_total{hook="connect",reason="no-agent-left-alone"} 0x7 1x100'],
                   ['weir_kernel_events_total{hook="connect",reason="no-agent-refused"} 0x7 1x100']),
    "WeirPlaintextPair": (30, [requests(A_B, "0+1x100", mtls="off")],
                          [requests(("outside", "crm/b"), "0+1x100", mtls="off"),
                           requests(A_B, "0+1x100", mtls="off", verdict="deny"), requests(A_B, "0+1x100", mtls="local")]),
    "WeirCertLifetime": (60, ["weir_certificate_start_timestamp_seconds 0x100", "weir_certificate_expiry_timestamp_seconds 3600x100"],
                         ["weir_certificate_start_timestamp_seconds 0x100", "weir_certificate_expiry_timestamp_seconds 4600x100"]),
    "WeirCertLifetimeCritical": (60, ["weir_certificate_start_timestamp_seconds 0x100", "weir_certificate_expiry_timestamp_seconds 3000x100"],
                                 ["weir_certificate_start_timestamp_seconds 0x100", "weir_certificate_expiry_timestamp_seconds 3900x100"]),
    "WeirIssueFailing": (20, ["weir_certificates_failing 2x100"], ["weir_certificates_failing 2x15 0x100"]),
    "WeirDenySpike": (60, [requests(A_B, "0+1x100"), requests(A_B, "0x30 1+1x100", verdict="deny")],
                      [requests(A_B, "0+1x100", verdict="deny"),
                       requests(("outside", "crm/b"), "0+1x100"), requests(("outside", "crm/b"), "0+1x100", verdict="deny")]),
    "WeirPolicyRejected": (20, ["weir_config_rejected 1x100"], ["weir_config_rejected 0x17 1x100"]),
    "WeirErrorBudget": (120, [requests(A_B, "0+98x200"), requests(A_B, "0+2x200", code="5xx")],
                        [requests(A_B, "0+99x200"), requests(A_B, "0+1x200", code="5xx"), requests(A_B, "0+9x200", verdict="deny"),
                         requests(("crm/a", "crm/c"), "0+90x200"), requests(("crm/a", "crm/c"), "0+10x200", code="4xx")]),
    "WeirErrorBudgetSlow": (500, [requests(A_B, "0+99x600"), requests(A_B, "0+1x600", verdict="error", code="none")],
                            [requests(A_B, "0+995x600"), requests(A_B, "0+5x600", verdict="error", code="none")]),
    "WeirTelemetryLoss": (60, ['weir_telemetry_generated_total{kind="span"} 0+1000x100', 'weir_telemetry_dropped_total{kind="span"} 0x100',
                               'weir_export_dropped_total{exporter="c",signal="traces",reason="gave-up"} 0+0.6x100',
                               'weir_access_log_dropped_total{log="tcp://c:1",reason="queue-full"} 0+0.6x100'],
                          ['weir_telemetry_generated_total{kind="span"} 0+1000x100', 'weir_telemetry_dropped_total{kind="span"} 0x100',
                           'weir_export_dropped_total{exporter="c",signal="traces",reason="gave-up"} 0+0.9x100', 'weir_export_dropped_total{exporter="c",signal="metrics",reason="gave-up"} 0+9x100', 'weir_telemetry_delivered_total{kind="span"} 0+9x100']),
    "WeirLatencyAdded": (30, turns("weir_tunnel_wait_seconds", {"0.005": 98, "0.05": 100}), turns("weir_tunnel_wait_seconds", {"0.005": 99.1, "0.05": 100})),
    "WeirLoopLag": (30, turns("weir_loop_turn_seconds", {"0.05": 98, "0.1": 100}), turns("weir_loop_turn_seconds", {"0.05": 99.1, "0.1": 100})),
    "WeirMemory": (20, ['process_resident_memory_bytes{instance="n1"} 90x100', 'weir_memory_limit_bytes{instance="n1"} 100x100'],
                   ['process_resident_memory_bytes{instance="n1"} 84x100', 'weir_memory_limit_bytes{instance="n1"} 100x100',
                    'process_resident_memory_bytes{instance="n2"} 90x100']),
    "WeirFdNear": (20, [UP, 'process_open_fds{instance="n1"} 90x100', 'process_max_fds{instance="n1"} 100x100'],
                   [UP, 'process_open_fds{instance="n1"} 84x100', 'process_max_fds{instance="n1"} 100x100',
                    'process_open_fds{instance="another program"} 90x100', 'process_max_fds{instance="another program"} 100x100']),
    "WeirVersionSkew": (200, [UP, 'weir_build_info{instance="n2",version="2"} 1x300'],
                        [UP, 'weir_build_info{instance="n2",version="2"} 1x100 _x200', 'weir_build_info{instance="n3",version="1"} 1x300']),
}


def recorded():
    """[(name, labels as written, value)], and the type of each family."""
    samples, types = [], {}
    for line in SCRAPE.read_text().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            types[name] = kind
        elif not line.startswith("#"):
            name, labels, value = SAMPLE.match(line).groups()
            samples.append((name, labels or "", float(value)))
    return samples, types


def series(minutes, growth):
    """The scrape as promtool's input, every minute: counters grow by `growth` of what was
    recorded, gauges stay, and the configuration was loaded at second 0 of the test."""
    samples, types = recorded()
    start = next(value for name, _, value in samples if name == "weir_config_loaded_timestamp_seconds")
    out = []
    for name, labels, value in samples:
        gauge = types.get(name) == "gauge"
        if gauge and name.endswith("_seconds"):
            value -= start
        labels = '{instance="node-a"' + ("," + labels[1:] if labels else "}")
        out.append(f"{name}{labels} {value}+{0 if gauge else value * growth}x{minutes}")
    return out


def expressions():
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def substituted(expression):
    for name, value in VARIABLES.items():
        expression = re.sub(rf"\${name}\b", value, expression)
    return expression


def split(line):
    """A series and its values; the name and labels end where the first space outside quotes is."""
    name, values = re.match(r'((?:[^" ]|"(?:[^"\\]|\\.)*")+) (.*)$', line).groups()
    return {"series": name, "values": values}


def group(input_series, minute, wanted):
    """wanted: [(expression, whether it gives data)]."""
    return {"interval": "1m", "input_series": [split(line) for line in input_series],
            "promql_expr_test": [
                {"expr": f"count({expression}) > bool 0", "eval_time": f"{minute}m",
                 "exp_samples": [{"labels": "{}", "value": 1}] if data else []} for expression, data in wanted]}


def promtool(groups, rules=RULES):
    """promtool's complaints about `groups`; empty when it has none."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        # JSON is YAML.
        json.dump({"rule_files": [str(path) for path in rules], "evaluation_interval": "1m", "tests": groups}, file)
        file.flush()
        done = subprocess.run(["promtool", "test", "rules", file.name], capture_output=True, text=True)
        return "" if done.returncode == 0 else done.stdout + done.stderr


def firing(alert):
    return f'ALERTS{{alertname="{alert}",alertstate="firing"}}'


def alert_names():
    return re.findall(r"^  - alert: (\w+)$", RULES[1].read_text(), re.M)


class DashboardsTest(unittest.TestCase):
    maxDiff = None

    def test_rules_are_valid(self):
        done = subprocess.run(["promtool", "check", "rules", "--lint-fatal", *RULES], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_panel_shows_data(self):
        now, history = [], []
        for _, expression in expressions():
            (history if "offset 1w" in expression else now).append((substituted(expression), True))
        self.assertGreater(len(now), 50)
        self.assertGreater(len(history), 0)
        self.assertEqual(promtool([group(series(200, 0.1) + PROBLEMS, 100, now)]), "")
        week = [line for line in series(WEEK + 200, 0.1) if line.startswith("weir_requests_total")]
        self.assertEqual(promtool([group(week, WEEK + 100, history)], rules=[]), "")

    def test_a_panel_without_data_would_be_noticed(self):
        self.assertIn("weir_no_such_metric", promtool([group(series(20, 0.1), 10, [("weir_no_such_metric", True)])]))

    def test_queries_use_only_metrics_that_there_are(self):
        samples, types = recorded()
        known = {name for name, _, _ in samples} | set(re.findall(r"record: (\S+)", RULES[0].read_text()))
        known |= {name + ("_total" if kind == "counter" else "") for name, kind in types.items()}
        queries = [expression for _, expression in expressions()] + [path.read_text() for path in RULES]
        for query in queries:
            text = re.sub(r"^.*(record|alert|name|runbook|summary|description): .*$", "", query, flags=re.M)
            for name in re.findall(r"\b(?:weir[:_]|process_)[a-z0-9_:]+", re.sub(r'"[^"]*"', "", text)):
                self.assertIn(name, known, query)

    def test_the_basic_profile_has_what_the_rules_need(self):
        """Who scrapes a port of MeshMetric with the profile Basic has the alerts."""
        basic = re.search(r"^\| `Basic` \| (.*) \|$", (ROOT / "docs" / "metrics.md").read_text(), re.M)[1]
        families = set(re.findall(r"`(\w+)`", basic))
        self.assertGreater(len(families), 20)
        for path in RULES:
            text = re.sub(r"^.*(record|alert|name|runbook|summary|description): .*$", "", path.read_text(), flags=re.M)
            for name in re.findall(r"\b(?:weir_|process_)[a-z0-9_]+", re.sub(r'"[^"]*"', "", text)):
                self.assertIn(re.sub("_(total|bucket|count|sum)$", "", name), families, name)

    def test_no_query_depends_on_the_name_of_a_job(self):
        for place, expression in expressions():
            self.assertNotRegex(expression, r"\bjob\b", place)

    def test_every_panel_has_a_description_and_every_dashboard_links_to_the_others(self):
        for path in DASHBOARDS:
            dashboard = json.loads(path.read_text())
            self.assertEqual(len(dashboard["links"]), len(DASHBOARDS) - 1)
            for panel in dashboard["panels"]:
                self.assertTrue(panel["description"], panel["title"])

    def test_dashboards_are_what_their_generator_writes(self):
        done = subprocess.run([sys.executable, ROOT / "deploy" / "grafana" / "generate.py", "--check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(DASHBOARDS), 6)

    def test_every_alert_fires(self):
        self.assertEqual(set(alert_names()), set(ALERTS))
        groups = [group(fire, minute, [(firing(alert), True)]) for alert, (minute, fire, _) in ALERTS.items()]
        self.assertEqual(promtool(groups), "")

    def test_no_alert_fires_when_it_just_should_not(self):
        groups = [group(quiet, minute, [(firing(alert), False)]) for alert, (minute, _, quiet) in ALERTS.items()]
        self.assertEqual(promtool(groups), "")

    def test_no_alert_fires_on_a_mesh_that_is_well(self):
        quiet = [(firing(alert), False) for alert in alert_names()]
        for growth in (0, 0.1):  # idle, and at work
            # The run had connections refused and cut on purpose.
            well = [line for line in series(200, growth) if not re.search(r'verdict="(deny|error)"', line)]
            self.assertEqual(promtool([group(well, minute, quiet) for minute in (0, 1, 30, 150)]), "", growth)

    def test_errors_of_grpc_and_databases_are_errors(self):
        """Neither shows in a status of HTTP."""
        into, out = ("crm/a", "crm/crm-mobile"), ("crm/crm-mobile", "crm/crm-conductor")
        known = []
        for pair, labels in ((into, {"protocol": "grpc"}), (out, {"protocol": "grpc", "direction": "out"})):
            known += [requests(pair, "0+98x200", **labels), requests(pair, "0+2x200", code="error", **labels)]
        known.append(requests(out, "0+9x200", direction="out", protocol="redis", code="error"))
        panels = {place: substituted(expression) for place, expression in expressions()}
        wanted = [(f"{expression} < 0.99", True) for place, expression in panels.items() if "success" in place.lower()]
        self.assertEqual(len(wanted), 3)
        wanted += [(f"({panels['pair: Errors by cause']}) > 0", True),
                   (f"({panels['workload: Outbound database errors a second, by destination']}) > 0.1", True),
                   ('weir:request_error_share:rate5m{destination="crm/crm-mobile"} > 0.019 < 0.021', True),
                   ('weir:request_errors:rate5m{direction="out"} > 0', True), (firing("WeirErrorBudget"), True)]
        self.assertEqual(promtool([group(known, 120, wanted)]), "")

    def test_every_alert_has_its_section(self):
        headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "alerts.md").read_text(), re.M)
        self.assertEqual(sorted(headings), sorted(alert_names()))
        for alert in alert_names():
            self.assertIn(f"runbook: docs/alerts.md#{alert.lower()}\n", RULES[1].read_text())


if __name__ == "__main__":
    unittest.main()

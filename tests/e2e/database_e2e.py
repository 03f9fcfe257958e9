"""Databases through two agents: PostgreSQL, MariaDB and Redis as they are, spoken to by their own
clients, with a CLIENT span for each command and not one value in anything that weir tells.

  sudo python3 tests/e2e/database_e2e.py --bin build/dev/bin [-v]
"""
import argparse
import collections
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "demo"))

from crm_mesh import CrmMesh  # noqa: E402
from database_client import SECRET  # noqa: E402
from topology import sh, wait_until  # noqa: E402

PREFIX = "weir-sql"
RUN = pathlib.Path("/run/weir-sql")
PYTHON = "/usr/bin/python3"  # that Debian's drivers belong to
PG = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), default=pathlib.Path("/usr/bin"))
BIN = None

# Found by its hint, by the client's first bytes, or by the greeting on MySQL's port.
SERVICES = {
    "app": ("node-a", "http", 8080),
    "postgres": ("node-b", "postgresql", 5432),
    "mariadb": ("node-b", "", 3306),
    "redis": ("node-a", "", 6379),  # on the client's node: joined
    "echo": ("node-b", "tcp", 7000),
}


class DatabaseMesh(CrmMesh):
    def _dataplane(self, name, pod, hint, port):
        text = super()._dataplane(name, pod, hint, port)
        return text if hint else text.replace("      kuma.io/protocol: \n", "")

    def _permissive_gateway(self):
        return super()._permissive_gateway().replace("app: gateway", "app: app")

    def write_configuration(self):
        super().write_configuration()
        (self.documents / "trace.yaml").write_text(
            "type: MeshTrace\nmesh: default\nname: all\nspec:\n  default:\n    connectionSpans: true\n")

    def as_user(self, user, *words):
        sh("runuser", "-u", user, "--", *words)

    def start_application(self):
        self._start_postgres()
        self._start_mariadb()
        self.topology.start_in_pod(self.pods["redis"], [
            "redis-server", "--port", 6379, "--bind", "0.0.0.0", "--save", "", "--appendonly", "no",
            "--protected-mode", "no", "--dir", self.topology.run])
        self.topology.start_in_pod(self.pods["echo"], ["socat", "TCP-LISTEN:7000,reuseaddr,fork", "EXEC:cat"])
        for name in ("postgres", "mariadb", "redis", "echo"):
            port = SERVICES[name][2]
            wait_until(f"{name} listens", f"look at {self.topology.run}/{name}.log",
                       lambda name=name, port=port: f":{port} " in self.topology.in_netns(
                           self.pods[name].netns, "ss", "-Hltn", check=False), seconds=60)
        self._make_users()

    def _directory(self, name, user):
        path = self.topology.run / name
        path.mkdir()
        shutil.chown(path, user)
        return path

    def _start_postgres(self):
        home = self._directory("pg", "postgres")
        data = home / "data"
        self.as_user("postgres", PG / "initdb", "-D", data, "-A", "trust", "--no-sync", "--locale=C.UTF-8")
        key, certificate = home / "server.key", home / "server.crt"
        sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
           "-subj", "/CN=postgres", "-keyout", key, "-out", certificate, "-days", "2")
        for path in (key, certificate):
            shutil.chown(path, "postgres")
        key.chmod(0o600)
        (data / "pg_hba.conf").write_text(
            "local all postgres trust\nhost all all all scram-sha-256\n")
        self.topology.start_in_pod(self.pods["postgres"], [
            "runuser", "-u", "postgres", "--", PG / "postgres", "-D", data, "-k", home, "-h", "*", "-F",
            "-c", "ssl=on", "-c", f"ssl_cert_file={certificate}", "-c", f"ssl_key_file={key}"])

    def _start_mariadb(self):
        home = self._directory("my", "mysql")
        sh("mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={home}/data",
           "--auth-root-authentication-method=socket", "--skip-test-db")
        self.topology.start_in_pod(self.pods["mariadb"], [
            "mariadbd", "--no-defaults", "--user=mysql", f"--datadir={home}/data", f"--socket={home}/my.sock",
            "--bind-address=0.0.0.0", "--port=3306", f"--pid-file={home}/my.pid", "--skip-name-resolve",
            "--max-allowed-packet=64M", "--local-infile=1", "--innodb-flush-log-at-trx-commit=0"])

    def _make_users(self):
        home = self.topology.run
        for sql in (f"CREATE ROLE weir LOGIN PASSWORD '{SECRET}'", "CREATE DATABASE shop OWNER weir"):
            wait_until("PostgreSQL serves", f"look at {home}/postgres.log", lambda sql=sql: subprocess.run(
                ["psql", "-h", home / "pg", "-U", "postgres", "-c", sql], capture_output=True,
                check=False).returncode == 0)
        wait_until("MariaDB serves", f"look at {home}/mariadb.log", lambda: subprocess.run(
            ["mariadb", "--no-defaults", "-S", home / "my" / "my.sock", "-e",
             "CREATE DATABASE IF NOT EXISTS shop; CREATE DATABASE IF NOT EXISTS other; "
             f"CREATE USER IF NOT EXISTS weir IDENTIFIED BY '{SECRET}'; GRANT ALL ON *.* TO weir"],
            capture_output=True, check=False).returncode == 0, seconds=60)

    def in_app(self, *words, check=True, env=None, **options):
        """Runs a program as the application, where the hooks see it."""
        procs = self.pods["app"].cgroup / "cgroup.procs"
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.pods['app'].netns}", *map(str, words)], capture_output=True,
            text=True, timeout=120, check=False, env={**os.environ, **(env or {})},
            preexec_fn=lambda: procs.write_text(str(os.getpid())), **options)
        if check and done.returncode != 0:
            raise AssertionError(f"{words}: {done.stdout} {done.stderr}")
        return done

    def work(self, what, service):
        done = self.in_app(PYTHON, HERE / "database_client.py", what, self.pods[service].address,
                           SERVICES[service][2], env={"SCRATCH": str(self.topology.run)})
        return json.loads(done.stdout)

    def spans(self, system):
        """Of the client's agent, in the order of their begin."""
        listed = json.loads(self.weir("node-a", "traces", "-o", "json", "--limit", 1000))
        spans = []
        for trace in listed["traces"]:
            spans += json.loads(self.weir("node-a", "traces", trace["traceId"], "-o", "json"))["spans"]
        return sorted((span for span in spans if span["attributes"].get("db.system.name") == system),
                      key=lambda span: span["start"])

    def metric(self, node, name):
        text = sh("curl", "-sf", "--unix-socket", self.nodes[node].socket, "http://weir/metrics")
        return sum(float(value) for value in re.findall(rf"^{re.escape(name)} (\S+)$", text, re.M))


def facts(span):
    """(name, namespace, error, returned rows, affected rows)."""
    attributes = span["attributes"]
    return (span["name"], attributes.get("db.namespace"), span.get("errorType") or None,
            attributes.get("db.response.returned_rows"), attributes.get("weir.db.affected_rows"))


class DatabaseTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mesh = DatabaseMesh(PREFIX, RUN, BIN / "weir-agent", BIN / "weir", SERVICES)
        cls.addClassCleanup(cls.mesh.topology.down)
        cls.mesh.topology.up()
        cls.mesh.write_configuration()
        cls.mesh.start_application()
        cls.mesh.start_agents()

    def wait_for(self, system, expected):
        """The spans of `system` when as many as expected are there; each is checked for what all have."""
        spans = wait_until(f"{len(expected)} spans of {system}", "weir traces", lambda: (
            s := self.mesh.spans(system)) and len(s) >= len(expected) and s)
        self.assertEqual([facts(span) for span in spans], expected)
        for span in spans:
            self.assertEqual(span["kind"], "client")
            self.assertEqual(span["service"], "app")
            self.assertGreater(span["durationSeconds"], 0)
        return spans

    def test_postgresql(self):
        done = self.mesh.work("postgresql", "postgres")
        self.assertEqual(done, {"inserted": 2, "names": [SECRET + "1", SECRET + "2"], "whole": True,
                                "errors": ["42P01", "23505"]})
        script = RUN / "script.sql"
        script.write_text(f"SELECT name FROM customers WHERE name <> '{SECRET}';\n")
        self.mesh.in_app(PG / "pgbench", "-n", "-M", "prepared", "-t", 3, "-f", script,
                         f"host={self.mesh.pods['postgres'].address} dbname=shop user=weir password={SECRET} "
                         "sslmode=disable")
        expected = [
            ("CREATE TABLE customers", "shop", None, None, None),
            ("INSERT customers", "shop", None, None, "2"),
            ("SELECT customers", "shop", None, "2", None),
            ("UPDATE customers", "shop", None, None, "1"),
            ("SELECT customers", "shop", None, "1", None),
            ("SELECT missing", "shop", "42P01", None, None),
            ("INSERT customers", "shop", "23505", None, None),
            ("BEGIN", "shop", None, None, None),
            ("DELETE customers", "shop", None, None, "1"),
            ("ROLLBACK", "shop", None, None, None),
            ("BEGIN", "shop", None, None, None),
            ("COPY customers", "shop", None, None, "2"),
            ("COMMIT", "shop", None, None, None),
        ] + 3 * [("SELECT customers", "shop", None, "2", None)]
        spans = self.wait_for("postgresql", expected)
        self.assertEqual(spans[1]["attributes"]["db.operation.name"], "INSERT")
        self.assertEqual(spans[1]["attributes"]["db.collection.name"], "customers")
        self.assertTrue(spans[5]["error"])
        self.assertEqual(spans[5]["attributes"]["db.response.status_code"], "42P01")

    def test_tls_to_postgresql_passes_unread(self):
        before = self.mesh.metric("node-a", 'weir_database_unfollowed_total{reason="tls"}')
        self.assertEqual(self.mesh.work("tls", "postgres"), {"encrypted": True})
        self.assertEqual(self.mesh.metric("node-a", 'weir_database_unfollowed_total{reason="tls"}'), before + 1)
        flow = wait_until("its flow", "weir flows", lambda: [
            flow for flow in self.flows("proto=tls and dst.port=5432 and dir=out")])[-1]
        self.assertEqual((flow["kind"], flow["verdict"]), ("connection", "allow"))
        self.assertTrue(self.connection_spans("postgres"))

    def flows(self, expression):
        text = self.mesh.weir("node-a", "flows", "--last", 5000, "-o", "jsonl", expression)
        return [json.loads(line) for line in text.splitlines() if line]

    def test_mariadb(self):
        done = self.mesh.work("mariadb", "mariadb")
        self.assertEqual(done, {"inserted": 2, "names": [SECRET + "1", SECRET + "2"], "whole": True,
                                "errors": [1146, 1062], "loaded": 1000,
                                "prepared": {"rows": [1002, 1002, 1002], "failed": True}})
        spans = wait_until("the spans of MariaDB", "weir traces", lambda: (
            s := self.mesh.spans("mariadb")) and any(f[2] == "1064" for f in map(facts, s)) and s)
        # Drivers set the connection up by statements of their own.
        seen = [facts(span) for span in spans if not span["name"].startswith("SET")]
        self.assertEqual(seen, [
            ("CREATE TABLE customers", "shop", None, None, "0"),
            ("INSERT customers", "shop", None, None, "2"),
            ("SELECT customers", "shop", None, "2", None),
            ("UPDATE customers", "shop", None, None, "1"),
            ("SELECT customers", "shop", None, "1", None),
            ("SELECT missing", "shop", "1146", None, None),
            ("INSERT customers", "shop", "1062", None, None),
            ("LOAD", "shop", None, None, "1000"),
            ("USE", "shop", None, None, None),
            ("SELECT", "other", None, "1", None),
        ] + 3 * [("SELECT customers", "shop", None, "1002", None)] + [("mariadb", "shop", "1064", None, None)])

    def test_redis(self):
        done = self.mesh.work("redis", "redis")
        self.assertEqual(done, {"set": True, "whole": True, "error": "WRONGTYPE", "transaction": [1, 2],
                                "pipeline": [3, "3", 1], "script": 1, "heard": True})
        self.wait_for("redis", [
            ("SELECT", "0", None, None, None), ("SET", "3", None, None, None), ("GET", "3", None, None, None),
            ("LPUSH", "3", "WRONGTYPE", None, None),
            ("SELECT", "0", None, None, None),  # the pipelines have a connection of their own
            ("MULTI INCRBY", "3", None, None, None), ("INCRBY", "3", None, None, None), ("GET", "3", None, None, None), ("DEL", "3", None, None, None),
            ("EVAL", "3", None, None, None), ("PUBLISH", "3", None, None, None)])
        self.assertEqual(self.mesh.metric("node-a", 'weir_database_unfollowed_total{reason="subscription"}'), 1)
        kinds = collections.Counter(flow["direction"] for flow in self.flows("proto=redis and kind=request"))
        self.assertEqual(kinds, {"out": 11})

    def connection_spans(self, destination):
        listed = json.loads(self.mesh.weir("node-a", "traces", "-o", "json", "--limit", 1000))
        found = [json.loads(self.mesh.weir("node-a", "traces", trace["traceId"], "-o", "json"))
                 for trace in listed["traces"] if trace["rootName"] == "connection"]
        return [span for trace in found for span in trace["spans"]
                if span["attributes"]["destination"] == f"crm/{destination}"]

    def test_opaque_connections_have_a_span_each(self):
        for _ in range(3):
            done = self.mesh.in_app("socat", "-t5", "-", f"TCP:{self.mesh.pods['echo'].address}:7000", input="hello\n")
            self.assertEqual(done.stdout, "hello\n")
        spans = wait_until("three spans", "weir traces", lambda: (
            s := self.connection_spans("echo")) and len(s) >= 3 and s)
        self.assertEqual(len(spans), 3)
        self.assertEqual({span["kind"] for span in spans}, {"client"})
        other = json.loads(self.mesh.weir("node-b", "traces", "-o", "json", "--limit", 1000))
        self.assertEqual([trace for trace in other["traces"] if trace["rootName"] == "connection"], [])

    def test_with_commands_being_children_of_the_request_that_they_are_sent_for(self):
        app = self.mesh.pods["app"]
        self.mesh.topology.start_in_pod(app, [PYTHON, HERE / "database_client.py", "serve",
                                              self.mesh.pods["postgres"].address, self.mesh.pods["redis"].address])
        wait_until("the application listens", f"look at {RUN}/app.log", lambda: ":8080 " in
                   self.mesh.topology.in_netns(app.netns, "ss", "-Hltn", check=False), seconds=30)
        requests, learning = 100, 80  # until each destination has seen 64 with one request open
        client = self.mesh.client
        procs = client.cgroup / "agent" / "cgroup.procs"
        subprocess.run(["nsenter", f"--net=/run/netns/{client.netns}", "curl", "-sf", "-o", "/dev/null",
                        f"http://{app.address}:8080/[1-{requests}]"], check=True, timeout=60,
                       preexec_fn=lambda: procs.write_text(str(os.getpid())))

        def whole():
            """The spans of each trace that begins with a request, in their order."""
            listed = json.loads(self.mesh.weir("node-a", "traces", "-o", "json", "--limit", 1000))
            found = [trace for trace in listed["traces"] if trace["rootName"].startswith("GET /")]
            return [json.loads(self.mesh.weir("node-a", "traces", trace["traceId"], "-o", "json"))["spans"]
                    for trace in sorted(found, key=lambda trace: trace["start"])] if len(found) == requests else None

        traces = wait_until("a trace for each request", "weir traces", whole, seconds=60)
        for spans in traces[learning:]:
            server = next(span for span in spans if span["kind"] == "server")
            commands = sorted(span["name"] for span in spans if span["kind"] == "client")
            self.assertEqual(commands, ["GET", "SELECT pg_class"])
            for span in spans:
                if span["kind"] == "client":
                    self.assertEqual(span["parentSpanId"], server["spanId"])
                    self.assertIn(span["parentSource"], ("turn", "sole"))

    def test_zz_no_value_shows_anywhere(self):
        """Last: everything that weir tells of what the others did."""
        for node in self.mesh.nodes.values():
            listed = json.loads(self.mesh.weir(node.name, "traces", "-o", "json", "--limit", 1000))
            texts = {"flows": self.mesh.weir(node.name, "flows", "--last", 5000, "-o", "jsonl"),
                     "table": self.mesh.weir(node.name, "flows", "--last", 5000),
                     "metrics": sh("curl", "-sf", "--unix-socket", node.socket, "http://weir/metrics"),
                     "access log": (node.run / "access.json").read_text(),
                     "log": (RUN / f"agent-{node.name}.log").read_text()}
            for trace in listed["traces"]:
                texts[trace["traceId"]] = self.mesh.weir(node.name, "traces", trace["traceId"], "-o", "json")
            for what, text in texts.items():
                self.assertNotIn(SECRET, text, f"{what} of {node.name}")
        log = [json.loads(line) for line in
               (self.mesh.nodes["node-a"].run / "access.json").read_text().splitlines()]
        self.assertIn("SELECT customers", {line["message"] for line in log})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--bin", required=True)
    options, rest = parser.parse_known_args()
    BIN = pathlib.Path(options.bin).resolve()
    if os.getuid() != 0:
        if os.environ.get("WEIR_REQUIRE_ROOT") == "1":
            sys.exit("needs root")
        print("all tests skipped: needs root")
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A second run at the same time would sweep up the first one's nodes: it waits.
    lock = open(RUN.with_suffix(".lock"), "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unittest.main(argv=[sys.argv[0], *rest])

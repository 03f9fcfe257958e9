"""The proxies that weir is measured against, each as a pair with mutual TLS between the two
sides: HAProxy, nginx stream and Envoy in TCP mode, and Envoy in HTTP mode with
OpenTelemetry tracing of every request, as a sidecar mesh sets it up. They listen on a local
port (the kernel's redirection of a real sidecar is left out, in the peers' favour)."""
import json

from bed import Http2Application, Pair, sh


def make_certificates(directory):
    """A root and two P-256 SVIDs made with the openssl command."""
    def ssl(*words):
        sh("openssl", *words)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    ssl("req", "-x509", *curve, "-keyout", directory / "ca.key", "-out", directory / "ca.crt",
        "-days", "2", "-subj", "/CN=benchmark", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for side in ("client", "server"):
        extensions = directory / f"{side}.ext"
        extensions.write_text(f"subjectAltName=critical,URI:spiffe://bench.test/{side}\n"
                              "keyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:FALSE\n"
                              "extendedKeyUsage=serverAuth,clientAuth\n")
        ssl("req", "-new", *curve, "-keyout", directory / f"{side}.key", "-out", directory / f"{side}.csr",
            "-subj", "/")
        ssl("x509", "-req", "-in", directory / f"{side}.csr", "-CA", directory / "ca.crt",
            "-CAkey", directory / "ca.key", "-CAcreateserial", "-days", "1", "-extfile", extensions,
            "-out", directory / f"{side}.crt")
        pem = directory / f"{side}.pem"
        pem.write_bytes((directory / f"{side}.crt").read_bytes() + (directory / f"{side}.key").read_bytes())


class ProxyPair(Pair):
    most_connections = 4000  # two descriptors each, and a process may have 20,000 at most
    certificates = None
    envoy = None

    @property
    def target(self):
        return "127.0.0.1:9000"


class HaproxyPair(ProxyPair):
    name = "haproxy"
    what = "HAProxy, TCP mode"

    def start_proxies(self):
        certs = self.certificates
        common = ("global\n  nbthread 1\n  maxconn 9000\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n"
                  "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n")
        client = self.run / "client.cfg"
        client.write_text(common + "listen out\n  bind 127.0.0.1:9000 backlog 8192\n"
                          f"  server s {self.server_ip}:9001 ssl verify required ca-file {certs}/ca.crt"
                          f" crt {certs}/client.pem\n")
        server = self.run / "server.cfg"
        server.write_text(common + f"listen in\n  bind {self.server_ip}:9001 backlog 8192 ssl"
                          f" crt {certs}/server.pem ca-file {certs}/ca.crt verify required\n"
                          "  server app 127.0.0.1:8080\n")
        self.proxies = [self.start("client", self.client_ns, "client", ["haproxy", "-db", "-f", client]),
                        self.start("server", self.server_ns, "server", ["haproxy", "-db", "-f", server])]


class NginxPair(ProxyPair):
    name = "nginx"
    what = "nginx, stream module"

    def start_proxies(self):
        certs = self.certificates
        for side, ns, body in (
                ("client", self.client_ns,
                 f"listen 127.0.0.1:9000 backlog=8192; proxy_pass {self.server_ip}:9001; proxy_ssl on;"
                 f" proxy_ssl_protocols TLSv1.3; proxy_ssl_verify on; proxy_ssl_name bench;"
                 f" proxy_ssl_trusted_certificate {certs}/ca.crt;"
                 f" proxy_ssl_certificate {certs}/client.crt; proxy_ssl_certificate_key {certs}/client.key;"
                 " proxy_ssl_session_reuse on;".replace("proxy_ssl_verify on", "proxy_ssl_verify off")),
                ("server", self.server_ns,
                 f"listen {self.server_ip}:9001 ssl backlog=8192; ssl_protocols TLSv1.3;"
                 f" ssl_certificate {certs}/server.crt; ssl_certificate_key {certs}/server.key;"
                 f" ssl_verify_client on; ssl_client_certificate {certs}/ca.crt;"
                 " proxy_pass 127.0.0.1:8080;")):
            conf = self.run / f"{side}.conf"
            conf.write_text("load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
                            f"daemon off; worker_processes 1; user root; pid {self.run}/{side}.pid;\n"
                            f"error_log {self.run}/{side}.log warn; worker_rlimit_nofile 20000;\n"
                            "events { worker_connections 19000; }\n"
                            f"stream {{ proxy_timeout 1h; server {{ {body} }} }}\n")
            self.proxies.append(self.start(side, ns, side, ["nginx", "-c", conf, "-e", self.run / f"{side}.log"]))


TYPE = "type.googleapis.com/envoy.extensions."


def address(ip, port):
    return {"address": {"socket_address": {"address": ip, "port_value": port}}}


def typed(name, kind, **fields):
    return {"name": name, "typed_config": {"@type": TYPE + kind, **fields}}


class EnvoyTcpPair(ProxyPair):
    name = "envoy-tcp"
    what = "Envoy, TCP mode"
    http = False
    application_http2 = False

    def tls(self, side, peer, role):
        certs = self.certificates
        common = {
            "tls_certificates": [{"certificate_chain": {"filename": f"{certs}/{side}.crt"},
                                  "private_key": {"filename": f"{certs}/{side}.key"}}],
            "validation_context": {
                "trusted_ca": {"filename": f"{certs}/ca.crt"},
                "match_typed_subject_alt_names": [
                    {"san_type": "URI", "matcher": {"exact": f"spiffe://bench.test/{peer}"}}]}}
        extra = {"require_client_certificate": True} if role == "Downstream" else {}
        return typed("envoy.transport_sockets.tls", f"transport_sockets.tls.v3.{role}TlsContext",
                     common_tls_context=common, **extra)

    def cluster(self, name, ip, port, http2=False, **extra):
        cluster = {"name": name, "type": "STATIC", "connect_timeout": "5s",
                   "circuit_breakers": {"thresholds": [{"max_connections": 20000,
                                                        "max_pending_requests": 20000,
                                                        "max_requests": 20000}]},
                   "load_assignment": {"cluster_name": name,
                                       "endpoints": [{"lb_endpoints": [{"endpoint": address(ip, port)}]}]},
                   **extra}
        if http2:
            cluster["typed_extension_protocol_options"] = {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": TYPE + "upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}}}
        return cluster

    def filters(self, side):
        chain = []
        if side == "server":
            chain.append(typed("rbac", "filters.network.rbac.v3.RBAC", stat_prefix="in", rules={
                "action": "ALLOW", "policies": {"client-only": {
                    "permissions": [{"any": True}],
                    "principals": [{"authenticated": {"principal_name": {
                        "exact": "spiffe://bench.test/client"}}}]}}}))
        if not self.http:
            return [*chain, typed("tcp", "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=side,
                                  cluster="next", idle_timeout="3600s")]
        manager = typed(
            "http", "filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix=side, codec_type="AUTO", stream_idle_timeout="0s",
            tracing={"overall_sampling": {"value": 100}, "client_sampling": {"value": 100},
                     "random_sampling": {"value": 100}, "spawn_upstream_span": False,
                     "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": {
                         "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                         "service_name": side,
                         "grpc_service": {"envoy_grpc": {"cluster_name": "collector"}, "timeout": "1s"}}}},
            http_filters=[typed("envoy.filters.http.router", "filters.http.router.v3.Router")],
            route_config={"name": "r", "virtual_hosts": [{
                "name": "all", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "next", "timeout": "0s"}}]}]})
        return [*chain, manager]

    def config(self, side):
        outbound = side == "client"
        chain = {"filters": self.filters(side)}
        if outbound:
            listen = address("127.0.0.1", 9000)
            following = self.cluster("next", self.server_ip, 9001, http2=self.http,
                                     transport_socket=self.tls("client", "server", "Upstream"))
        else:
            listen = address(self.server_ip, 9001)
            chain["transport_socket"] = self.tls("server", "client", "Downstream")
            following = self.cluster("next", "127.0.0.1", 8080, http2=self.application_http2)
        clusters = [following]
        if self.http:
            clusters.append(self.cluster("collector", "127.0.0.1", 4317, http2=True))
        return {"node": {"id": side, "cluster": side},
                "static_resources": {
                    "listeners": [{"name": side, **listen, "traffic_direction":
                                   "OUTBOUND" if outbound else "INBOUND", "filter_chains": [chain]}],
                    "clusters": clusters}}

    def start_proxies(self):
        for side, ns in (("client", self.client_ns), ("server", self.server_ns)):
            if self.http:
                start_collector(self, side, ns)
            file = self.run / f"{side}.json"
            file.write_text(json.dumps(self.config(side)))
            self.proxies.append(self.start(side, ns, side, [
                self.envoy, "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]))


class EnvoyHttpPair(EnvoyTcpPair):
    name = "envoy-http"
    what = "Envoy, HTTP mode, every request traced"
    http = True


class EnvoyHttp2Pair(Http2Application, EnvoyHttpPair):
    name = "envoy-http2"
    what = "Envoy, HTTP/2 to both applications, every request traced"
    application_http2 = True


def start_collector(pair, side, ns):
    """An nginx that takes OTLP over gRPC (4317) and over HTTP (4318) and answers success."""
    conf = pair.run / f"collector-{side}.conf"
    www = pair.run / f"collector-{side}"
    www.mkdir()
    (www / "empty").write_bytes(b"\0\0\0\0\0")
    (www / "none").write_bytes(b"")
    temp = " ".join(f"{k}_temp_path {www}/{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf.write_text(f"""daemon off; worker_processes 1; user root; pid {www}.pid; error_log {www}.log error;
events {{ worker_connections 1024; }}
http {{
  access_log off; {temp} client_max_body_size 64m; client_body_buffer_size 8m; root {www};
  keepalive_requests 1000000000; error_page 405 =200 $uri;
  server {{ listen 127.0.0.1:4317 http2; http2_max_concurrent_streams 1024;
    types {{}} default_type application/grpc; error_page 405 =200 /empty;
    location / {{ try_files /empty =404; add_trailer grpc-status 0 always; }} }}
  server {{ listen 127.0.0.1:4318; types {{}} default_type application/x-protobuf; error_page 405 =200 /none;
    location / {{ try_files /none =404; }} }}
}}
""")
    pair.start(side, ns, f"collector-{side}", ["nginx", "-c", conf, "-e", f"{www}.log"])

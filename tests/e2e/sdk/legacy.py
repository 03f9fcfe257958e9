"""A service with a Zipkin client, B3 in several headers. Its server span has the id that came
in them (Zipkin's shared spans), its client span one of its own."""
import http.server
import json
import os
import urllib.request

from py_zipkin.encoding import Encoding
from py_zipkin.request_helpers import create_http_headers, extract_zipkin_attrs_from_headers
from py_zipkin.transport import BaseTransportHandler
from py_zipkin.zipkin import zipkin_client_span, zipkin_server_span


class FileTransport(BaseTransportHandler):
    def get_max_payload_bytes(self):
        return None

    def send(self, payload):
        with open(os.environ["SPANS_FILE"], "a", encoding="utf-8") as out:
            for span in json.loads(payload):
                out.write(json.dumps({
                    "service": "legacy", "name": span["name"], "kind": span["kind"].lower(),
                    "traceId": span["traceId"].rjust(32, "0"), "spanId": span["id"],
                    "parentSpanId": span.get("parentId", "")}) + "\n")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with zipkin_server_span(service_name="legacy", span_name="handle", transport_handler=FileTransport(),
                                zipkin_attrs=extract_zipkin_attrs_from_headers(self.headers),
                                encoding=Encoding.V2_JSON):
            with zipkin_client_span(service_name="legacy", span_name="call"):
                with urllib.request.urlopen(urllib.request.Request(
                        os.environ["NEXT_URL"], headers=create_http_headers())) as answer:
                    body = answer.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()

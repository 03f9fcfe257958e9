"""A collector of OTLP/HTTP that knows only the official generated classes: takes requests
on PORT and writes what it decoded, one JSON object a request, to FILE. Run by an interpreter
that has them: see oracles.py.

  otlp_sink.py PORT FILE"""
import http.server
import json
import sys

from google.protobuf.json_format import MessageToDict
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

# Path -> what is sent there, and what it is answered with.
SERVICES = {
    "/v1/traces": (traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse),
    "/v1/logs": (logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse),
    "/v1/metrics": (metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse),
}


def unknown_fields(message):
    """Field numbers, at any depth, that the official classes do not have."""
    found = [field.field_number for field in UnknownFieldSet(message)]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in value if isinstance(value, (list, tuple)) or hasattr(value, "add") else [value]:
                found += unknown_fields(child)
    return found


def ids(request):
    """Lengths of the ids of each span and log record: trace, span, parent."""
    for resource in getattr(request, "resource_spans", []):
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield [len(span.trace_id), len(span.span_id), len(span.parent_span_id)]
    for resource in getattr(request, "resource_logs", []):
        for scope in resource.scope_logs:
            for record in scope.log_records:
                yield [len(record.trace_id), len(record.span_id), 0]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        line = {"path": self.path, "type": self.headers["Content-Type"]}
        response = traces.ExportTraceServiceResponse
        try:
            request_type, response = SERVICES[self.path]
            request = request_type()
            request.ParseFromString(body)
            line["unknown"] = unknown_fields(request)
            line["length"], line["canonical"] = len(body), len(request.SerializeToString())
            line["ids"] = list(ids(request))
            line["message"] = MessageToDict(request)
        except Exception as error:  # whatever it is, the test shows it
            line["error"] = str(error)
        with open(sys.argv[2], "a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        answer = response().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()

"""A service with spans of its own by the OpenTelemetry SDK, W3C's trace context.

GET /      a SERVER span below the request's context, and a CLIENT span around the call on
GET /root  the same as the root of a trace of its own, whatever the request says"""
import http.server
import json
import os
import urllib.request

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator


class FileExporter(SpanExporter):
    """One JSON object a span."""

    def export(self, spans):
        with open(os.environ["SPANS_FILE"], "a", encoding="utf-8") as out:
            for span in spans:
                out.write(json.dumps({
                    "service": "edge", "name": span.name, "kind": span.kind.name.lower(),
                    "traceId": f"{span.context.trace_id:032x}",
                    "spanId": f"{span.context.span_id:016x}",
                    "parentSpanId": f"{span.parent.span_id:016x}" if span.parent else ""}) + "\n")
        return SpanExportResult.SUCCESS


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(FileExporter()))
tracer = provider.get_tracer("edge")
propagator = TraceContextTextMapPropagator()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        context = Context() if self.path == "/root" else propagator.extract(headers, Context())
        with tracer.start_as_current_span("handle", context, trace.SpanKind.SERVER):
            with tracer.start_as_current_span("call", kind=trace.SpanKind.CLIENT):
                sent = {}
                propagator.inject(sent)
                with urllib.request.urlopen(
                        urllib.request.Request(os.environ["NEXT_URL"], headers=sent)) as answer:
                    body = answer.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()

"""A collector of OTLP/HTTP that behaves as the word in the file BEHAVIOUR says, and knows only
the official generated classes. Each request becomes a JSON line in LOG: how many spans it had,
and how many of them the answer accepted. Run by an interpreter that has them: see oracles.py.

  faulty_collector.py ADDRESS PORT BEHAVIOUR LOG

  ok       takes all                       refuse   400: takes none, and they are not to come back
  slow     answers after 30 s at best      429 503  with Retry-After: takes none now
  reset    resets the connection           partial  takes half, and says so
  cut      200, but the answer ends early  huge     200 with an answer of 5 MiB
  garbage  200 with an answer that is no message"""
import http.server
import json
import pathlib
import socket
import struct
import sys
import threading
import time

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

BEHAVIOUR, LOG = pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
SLOW_SECONDS = 30
LOCK = threading.Lock()
SEEN = set()  # span ids that were accepted


def spans_of(request):
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


def note(behaviour, spans, accepted):
    """Only where all or none are accepted it is known which."""
    with LOCK:
        again = 0
        if accepted == len(spans):
            ids = {span.span_id for span in spans}
            again = len(spans) - len(ids - SEEN)
            SEEN.update(ids)
        line = {"behaviour": behaviour, "spans": len(spans), "accepted": accepted, "again": again,
                "reversed": sum(span.end_time_unix_nano < span.start_time_unix_nano for span in spans)}
        with open(LOG, "a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = service.ExportTraceServiceRequest()
        request.ParseFromString(body)
        spans = list(spans_of(request))
        behaviour = BEHAVIOUR.read_text().strip()
        answer = service.ExportTraceServiceResponse()
        match behaviour:
            case "ok":
                note(behaviour, spans, len(spans))
                self.answer(200, answer.SerializeToString())
            case "partial":
                answer.partial_success.rejected_spans = len(spans) // 2
                answer.partial_success.error_message = "half of them"
                note(behaviour, spans, len(spans) - len(spans) // 2)
                self.answer(200, answer.SerializeToString())
            case "garbage":
                note(behaviour, spans, len(spans))
                self.answer(200, b"\xff" * 100)
            case _:
                note(behaviour, spans, 0)
                self.fail(behaviour)

    def fail(self, behaviour):
        match behaviour:
            case "429" | "503":
                self.answer(int(behaviour), b"", ("Retry-After", "1"))
            case "refuse":
                self.answer(400, b"no")
            case "huge":
                self.answer(200, b"x" * (5 << 20))
            case "cut":
                self.answer(200, b"123", ("Content-Length", "100"))
                self.close_connection = True
            case "slow":
                end = time.monotonic() + SLOW_SECONDS
                while time.monotonic() < end and BEHAVIOUR.read_text().strip() == behaviour:
                    time.sleep(0.05)
                self.close_connection = True
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
            case _:
                sys.exit(f"no such behaviour: {behaviour}")

    def answer(self, status, body, *fields):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        if not any(name == "Content-Length" for name, _ in fields):
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass  # the client need not read to the end of a huge answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def shutdown_request(self, request):
        """Without the shutdown() before close(), which would make a reset an end."""
        self.close_request(request)


if __name__ == "__main__":
    Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()

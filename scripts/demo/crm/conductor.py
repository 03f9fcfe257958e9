"""crm-conductor: puts a customer together from crm-salesforce and crm-database.

Knows nothing of a mesh; forwards the two trace headers and does nothing else with them, and
with FORWARD_TRACE_HEADERS=0 not even that.
"""
import http.client
import json
import os
import socket
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SALESFORCE = urllib.parse.urlsplit(os.environ["SALESFORCE_URL"])
FORWARDED = () if os.environ.get("FORWARD_TRACE_HEADERS") == "0" else ("traceparent", "tracestate")
DATABASE = urllib.parse.urlsplit(os.environ["DATABASE_URL"])


def fetch(service, path, headers):
    connection = http.client.HTTPConnection(service.hostname, service.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one segment

    def do_GET(self):
        number = self.path.split("?")[0].rsplit("/", 1)[-1]
        headers = {n: self.headers[n] for n in FORWARDED if n in self.headers}
        try:
            account_status, account = fetch(SALESFORCE, f"/salesforce/accounts/{number}", headers)
            customer_status, customer = fetch(DATABASE, f"/db/customers/{number}", headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.reply(502, {"error": f"{type(error).__name__}: {error}"})
            return
        self.reply(max(account_status, customer_status), {**account, **customer})

    def reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 1024


Server(("::", int(os.environ["PORT"])), Handler).serve_forever()

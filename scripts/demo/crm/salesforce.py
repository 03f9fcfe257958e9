"""crm-salesforce: the account of a customer, as the sales system would give it."""
import json
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one segment

    def do_GET(self):
        number = self.path.split("?")[0].rsplit("/", 1)[-1]
        body = {"account": f"SF-{number}", "owner": "inside-sales", "stage": "prospect"}
        data = json.dumps(body).encode()
        self.send_response(200)
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

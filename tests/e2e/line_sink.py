"""Takes lines by TCP on PORT, of any number of connections, and appends whole ones to FILE.

  line_sink.py PORT FILE"""
import socketserver
import sys
import threading

LOCK = threading.Lock()


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            if line.endswith(b"\n"):
                with LOCK, open(sys.argv[2], "ab") as out:
                    out.write(line)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    Server(("", int(sys.argv[1])), Handler).serve_forever()

"""A gRPC server and a client that checks it, without generated code.

  grpc_peer.py serve PORT
  grpc_peer.py call HOST:PORT CALLS      prints one JSON line
"""
import json
import sys
import threading
from concurrent import futures

import grpc

SERVICE = "weir.test.Echo"
STREAM_MESSAGES = 500
STREAM_BYTES = 2000


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        name = details.method.rsplit("/", 1)[-1]
        if not details.method.startswith(f"/{SERVICE}/"):
            return None
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Parent": grpc.unary_unary_rpc_method_handler(self.parent),
            "Missing": grpc.unary_unary_rpc_method_handler(self.missing),
            "Pull": grpc.unary_stream_rpc_method_handler(self.pull),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Hang": grpc.unary_unary_rpc_method_handler(self.hang),
        }.get(name)

    @staticmethod
    def unary(request, context):
        return request

    @staticmethod
    def parent(request, context):
        return dict(context.invocation_metadata()).get("traceparent", "none").encode()

    @staticmethod
    def missing(request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing there")

    @staticmethod
    def pull(request, context):
        for number in range(STREAM_MESSAGES):
            yield number.to_bytes(4, "big") * (STREAM_BYTES // 4)

    @staticmethod
    def both(requests, context):
        yield from requests

    @staticmethod
    def hang(request, context):
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait(20)
        return b""


def serve(port):
    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((Echo(),))
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    server.wait_for_termination()


def call(target, calls):
    result = {}
    with grpc.insecure_channel(target) as channel:
        unary = channel.unary_unary(f"/{SERVICE}/Unary")
        pending = [unary.future(bytes([i % 256]) * (i * 7 % 5000), timeout=30) for i in range(calls)]
        result["echoed"] = sum(f.result() == bytes([i % 256]) * (i * 7 % 5000)
                               for i, f in enumerate(pending))
        parents = [channel.unary_unary(f"/{SERVICE}/Parent")(b"", timeout=30).decode() for _ in range(5)]
        result["parents"] = len({p for p in parents if p.startswith("00-")})
        pulled = list(channel.unary_stream(f"/{SERVICE}/Pull")(b"", timeout=60))
        result["pulled"] = sum(m == i.to_bytes(4, "big") * (STREAM_BYTES // 4)
                               for i, m in enumerate(pulled))
        sent = [bytes([i % 256]) * 3000 for i in range(STREAM_MESSAGES)]
        both = channel.stream_stream(f"/{SERVICE}/Both")(iter(sent), timeout=60)
        result["both"] = list(both) == sent
        for name, method in (("missing", "Missing"), ("hang", "Hang"), ("unknown", "Unknown")):
            try:
                channel.unary_unary(f"/{SERVICE}/{method}")(b"", timeout=1 if name == "hang" else 30)
                result[name] = "OK"
            except grpc.RpcError as error:
                result[name] = error.code().name
    print(json.dumps(result))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        call(sys.argv[2], int(sys.argv[3]))

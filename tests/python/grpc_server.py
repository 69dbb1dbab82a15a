"""A gRPC backend with every kind of call, on a port of the kernel's choice, which it prints. Messages are bytes."""

import time
from concurrent import futures

import grpc


def unary(request, context):
    sent = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-trailing", "end"), ("x-authority", sent.get("x-forwarded-host", ""))))
    context.send_initial_metadata((("x-initial", sent.get("x-sent", "")),))
    return b"echo:" + request


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: " + request.decode())


def slow(request, context):
    time.sleep(float(request))
    return b"late"


def client_stream(requests, context):
    return b"+".join(requests)


def server_stream(request, context):
    for n in range(int(request)):
        yield str(n).encode()


def bidi(requests, context):
    for request in requests:
        yield b"re:" + request


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", HANDLERS),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"port {port}", flush=True)
server.wait_for_termination()

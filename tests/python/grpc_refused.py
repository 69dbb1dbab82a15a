"""Makes one call that must fail; prints its code, message and trailing metadata as JSON."""

import json
import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1])
try:
    channel.unary_unary("/test.Echo/Unary")(b"x", timeout=15)
    print(json.dumps({"code": "OK"}))
except grpc.RpcError as error:
    metadata = dict(error.initial_metadata() or ()) | dict(error.trailing_metadata() or ())
    print(json.dumps({"code": error.code().name, "message": error.details(), "metadata": metadata}, default=str))

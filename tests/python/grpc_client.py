"""Calls every method of grpc_server.py at the address given; prints `ok NAME` a call, or fails with a traceback."""

import sys
import threading

import grpc

channel = grpc.insecure_channel(sys.argv[1])
grpc.channel_ready_future(channel).result(timeout=15)
TIMEOUT = 15


def check(name, condition, detail=""):
    assert condition, f"{name}: {detail}"
    print(f"ok {name}", flush=True)


call = channel.unary_unary("/test.Echo/Unary")
answer, info = call.with_call(b"hello", metadata=(("x-sent", "1"),), timeout=TIMEOUT)
check("unary", answer == b"echo:hello", answer)
check("initial metadata", ("x-initial", "1") in list(info.initial_metadata()), info.initial_metadata())
check("trailing metadata", ("x-trailing", "end") in list(info.trailing_metadata()), info.trailing_metadata())

big = b"x" * (3 << 20)
check("a big message", call(big, timeout=TIMEOUT) == b"echo:" + big)

try:
    channel.unary_unary("/test.Echo/Fail")(b"later", timeout=TIMEOUT)
    check("a status", False, "no error")
except grpc.RpcError as error:
    check("a status", error.code() == grpc.StatusCode.FAILED_PRECONDITION, error.code())
    check("its message", error.details() == "not now: later", error.details())

try:
    channel.unary_unary("/test.Echo/Slow")(b"5", timeout=0.5)
    check("a deadline", False, "no error")
except grpc.RpcError as error:
    check("a deadline", error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error.code())

answer = channel.stream_unary("/test.Echo/ClientStream")(iter([b"a", b"b", b"c"]), timeout=TIMEOUT)
check("client stream", answer == b"a+b+c", answer)

answer = list(channel.unary_stream("/test.Echo/ServerStream")(b"100", timeout=TIMEOUT))
check("server stream", answer == [str(n).encode() for n in range(100)], answer)

turn = threading.Semaphore(0)


def words():
    for word in (b"one", b"two", b"three"):
        yield word
        turn.acquire()  # the next word goes out only after the answer to this one: no buffering on the way


got = []
for answer in channel.stream_stream("/test.Echo/Bidi")(words(), timeout=TIMEOUT):
    got.append(answer)
    turn.release()
check("bidi stream", got == [b"re:one", b"re:two", b"re:three"], got)

results = [call.future(str(n).encode(), timeout=TIMEOUT) for n in range(200)]
check("200 calls at once", all(f.result() == b"echo:" + str(n).encode() for n, f in enumerate(results)))

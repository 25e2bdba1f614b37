"""A gRPC server that says who it is: python backend.py ID

Messages are plain bytes, so that nothing has to be generated. Initial metadata of each answer: `backend`. What comes in
as `x-echo…` goes back in initial metadata, what comes in as `x-trail…` in trailing metadata. `x-fail: CODE` makes the
call fail after what it had to say, and `x-stay` makes it last. `Seen` tells as JSON how the calls of an `x-call` ended.
"""

import asyncio
import json
import sys

import grpc

SERVING = b"\x08\x01"  # HealthCheckResponse { status: SERVING }
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

id = sys.argv[1]
seen = {}


async def begin(context):
    metadata = context.invocation_metadata() or ()
    echoed = [(key, value) for key, value in metadata if key.startswith("x-echo")]
    await context.send_initial_metadata([("backend", id), *echoed])


async def end(context):
    metadata = dict(context.invocation_metadata() or ())
    # The messages of a client that gives up just end: only who stays learns more.
    if "x-stay" in metadata:
        await asyncio.sleep(60)
    context.set_trailing_metadata([(key, value) for key, value in metadata.items() if key.startswith("x-trail")])
    if code := metadata.get("x-fail"):
        await context.abort(grpc.StatusCode[code], "as you said: 100 % – ünïcode")


async def watched(context, call):
    """Waits for `call`, and notes how it ended."""
    name = dict(context.invocation_metadata() or ()).get("x-call")
    left = context.time_remaining()
    note(name, left, "running")
    try:
        result = await call
    except asyncio.CancelledError:
        note(name, left, "cancelled")
        raise
    except Exception:
        note(name, left, "failed")
        raise
    note(name, left, "done")
    return result


def note(name, left, how):
    if name:
        seen[name] = {"backend": id, "left": left, "how": how}


async def unary(request, context):
    async def call():
        await begin(context)
        if request == b"hang":
            await asyncio.sleep(60)
        await end(context)
        return request

    return await watched(context, call())


async def gather(requests, context):
    async def call():
        await begin(context)
        count = size = 0
        async for request in requests:
            count, size = count + 1, size + len(request)
        await end(context)
        return json.dumps({"count": count, "size": size}).encode()

    return await watched(context, call())


async def count(request, context):
    asked = json.loads(request)

    async def call():
        await begin(context)
        for number in range(asked["messages"]):
            await context.write(str(number).encode().ljust(asked.get("size", 0)))
            await asyncio.sleep(asked.get("pause", 0))
        await end(context)

    await watched(context, call())


async def talk(requests, context):
    async def call():
        await begin(context)
        async for request in requests:
            await context.write(request)
        await end(context)

    await watched(context, call())


async def tell(request, context):
    return json.dumps(seen.get(request.decode())).encode()


async def health(request, context):
    return SERVING


def handlers():
    echo = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Gather": grpc.stream_unary_rpc_method_handler(gather),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
        "Seen": grpc.unary_unary_rpc_method_handler(tell),
    }
    check = {"Check": grpc.unary_unary_rpc_method_handler(health)}
    return [
        grpc.method_handlers_generic_handler("test.Echo", echo),
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", check),
    ]


async def main():
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"port": port}), flush=True)
    await server.wait_for_termination()


asyncio.run(main())

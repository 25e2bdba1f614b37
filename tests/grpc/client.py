"""The four kinds of calls, by their path alone."""

import json

import grpc

# A channel of its own for each client: channels of one process share connections otherwise.
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


def channel(address):
    return grpc.aio.insecure_channel(address, options=OPTIONS)


class Client:
    def __init__(self, channel):
        self.unary = channel.unary_unary("/test.Echo/Unary")
        self.gather = channel.stream_unary("/test.Echo/Gather")
        self.count = channel.unary_stream("/test.Echo/Count")
        self.talk = channel.stream_stream("/test.Echo/Talk")
        self.check = channel.unary_unary("/grpc.health.v1.Health/Check")
        self.nothing = channel.unary_unary("/test.Echo/Nothing")
        self._seen = channel.unary_unary("/test.Echo/Seen")

    async def seen(self, call):
        """What a backend noted of a call."""
        return json.loads(await self._seen(call.encode()))


def counted(messages, **more):
    """Asks for that many messages."""
    return json.dumps({"messages": messages, **more}).encode()


async def backend(call):
    return dict(await call.initial_metadata())["backend"]


def cookie(metadata):
    """What a client shows that was given this metadata."""
    given = [value for key, value in metadata if key == "set-cookie"]
    return [("cookie", value.split(";")[0]) for value in given]


async def outcome(call):
    """The status of a call that is to fail, and what it says."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""

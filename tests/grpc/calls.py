"""What a client of gRPC sees of its calls through Homing."""

import asyncio
import json
import re

import grpc

from client import Client, backend, channel, cookie, counted, outcome
from report import check

LARGE = 8 * 1024 * 1024


async def run(homing, backends):
    async with channel(homing.address) as edge:
        client = Client(edge)
        for scenario in (kinds, metadata, statuses, large, concurrent, affinity):
            await bounded(scenario(client))
        direct = [channel(child.address) for child in backends]
        try:
            known = [Client(one) for one in direct]
            await bounded(deadlines(client, known))
            await bounded(cancellations(client, known))
        finally:
            await asyncio.gather(*(one.close() for one in direct))


async def bounded(scenario):
    try:
        await asyncio.wait_for(scenario, 30)
    except Exception as error:
        check(f"{scenario.__name__}: the scenario runs", False, repr(error))


async def kinds(client):
    check("unary", await client.unary(b"\x00hello\xff") == b"\x00hello\xff")
    check("an empty message", await client.unary(b"") == b"")

    gathered = json.loads(await client.gather(bytes(100) for _ in range(50)))
    check("a stream to the server", gathered == {"count": 50, "size": 5000}, gathered)

    numbers = [int(message) async for message in client.count(counted(50))]
    check("a stream to the client", numbers == list(range(50)))
    none = [message async for message in client.count(counted(0))]
    check("a stream of nothing", none == [])

    talk = client.talk()
    answers = []
    for number in range(20):
        # Each is answered before the next is sent: nothing waits on the way.
        await talk.write(str(number).encode())
        answers.append(await talk.read())
    await talk.done_writing()
    over = await talk.read() is grpc.aio.EOF
    check("streams both ways, in turn", over and answers == [str(number).encode() for number in range(20)])


async def metadata(client):
    sent = [("x-echo-a", "one"), ("x-echo-a", "two"), ("x-echo-bin", b"\x00\xfe\xff"), ("x-trail-bin", b"\xff\x00")]
    for kind in ("unary", "count", "talk", "gather"):
        call = getattr(client, kind)(arguments(kind), metadata=sent)
        initial = list(await call.initial_metadata())
        await finish(call, kind)
        trailing = dict(await call.trailing_metadata())
        values = [value for key, value in initial if key == "x-echo-a"]
        # Values of one name may be joined on their way (RFC 9110 §5.2).
        check(f"metadata of a call ({kind})", re.split(", ?", ",".join(values)) == ["one", "two"], values)
        check(f"binary metadata ({kind})", dict(initial).get("x-echo-bin") == b"\x00\xfe\xff")
        check(f"trailing metadata ({kind})", trailing.get("x-trail-bin") == b"\xff\x00", trailing)
        check(f"status OK ({kind})", await call.code() == grpc.StatusCode.OK)


async def finish(call, kind):
    if kind in ("count", "talk"):
        return [message async for message in call]
    return [await call]


def arguments(kind):
    if kind in ("gather", "talk"):
        return [b"one", b"two"]
    return counted(2)


async def statuses(client):
    for code in list(grpc.StatusCode)[1:]:
        got = await outcome(client.unary(b"", metadata=[("x-fail", code.name), ("x-trail-why", "so")]))
        check(f"{code.name} and its details", got == (code, "as you said: 100 % – ünïcode"), got)
    call = client.count(counted(3), metadata=[("x-fail", "DATA_LOSS"), ("x-trail-why", "so")])
    messages = 0
    try:
        async for _ in call:
            messages += 1
    except grpc.aio.AioRpcError as error:
        trailing = dict(error.trailing_metadata())
        check("a status after messages", (messages, error.code()) == (3, grpc.StatusCode.DATA_LOSS), error.code())
        check("trailing metadata with a failure", trailing.get("x-trail-why") == "so", trailing)
    code, _ = await outcome(client.nothing(b""))
    check("a method that nobody has", code == grpc.StatusCode.UNIMPLEMENTED, code)
    check("the health service", await client.check(b"") == b"\x08\x01")


async def large(client):
    message = bytes(range(256)) * (LARGE // 256)
    check("8 MiB there and back", await client.unary(message) == message)
    size = sum([len(message) async for message in client.count(counted(16, size=1024 * 1024))])
    check("16 MiB from the server", size == 16 * 1024 * 1024, size)
    gathered = json.loads(await client.gather(message for _ in range(2)))
    check("16 MiB to the server", gathered["size"] == 2 * LARGE, gathered)


async def concurrent(client):
    async def one(number):
        match number % 4:
            case 0:
                return await client.unary(b"%d" % number) == b"%d" % number
            case 1:
                return json.loads(await client.gather(b"x" for _ in range(number)))["count"] == number
            case 2:
                return len([0 async for _ in client.count(counted(number, pause=0.005))]) == number
            case 3:
                sent = [b"%d" % n for n in range(number)]
                return [message async for message in client.talk(sent)] == sent

    good = await asyncio.gather(*(one(number) for number in range(100)))
    check("100 calls at once on one channel", all(good), sum(good))


async def affinity(client):
    strangers, homes = set(), []
    for _ in range(20):
        call = client.unary(b"")
        cookies = cookie(await call.initial_metadata())
        strangers.add(await backend(call))
        homes.append((await backend(call), cookies))
    check("who shows no cookie goes anywhere", len(strangers) > 1, sorted(strangers))
    check("each of them is given a cookie", all(len(cookies) == 1 for _, cookies in homes))

    away = []
    for home, cookies in homes:
        for kind in ("unary", "gather", "count", "talk"):
            call = getattr(client, kind)(arguments(kind), metadata=cookies)
            if await backend(call) != home:
                away.append((kind, home))
            call.cancel()
    check("who shows it is at home, in calls of every kind", not away, away)


async def deadlines(client, backends):
    code, _ = await outcome(client.unary(b"hang", timeout=0.5, metadata=[("x-call", "late")]))
    check("a deadline ends a call", code == grpc.StatusCode.DEADLINE_EXCEEDED, code)
    seen = await noted(backends, "late")
    check("the backend knows the deadline", seen["left"] is not None and 0 < seen["left"] < 1, seen)
    check("the backend sees the end", seen["how"] == "cancelled", seen)

    call = client.count(counted(1000, pause=0.01), timeout=0.5, metadata=[("x-call", "late stream")])
    messages = 0
    try:
        async for _ in call:
            messages += 1
    except grpc.aio.AioRpcError as error:
        code = error.code()
    check("a deadline ends a stream", code == grpc.StatusCode.DEADLINE_EXCEEDED and messages > 0, messages)
    check("the backend sees the end of it", (await noted(backends, "late stream"))["how"] == "cancelled")

    call = client.unary(b"", timeout=20, metadata=[("x-call", "in time")])
    await call
    check("a call within its deadline is done", (await noted(backends, "in time"))["how"] == "done")


async def cancellations(client, backends):
    for kind in ("unary", "gather", "count", "talk"):
        name = f"cancelled {kind}"
        call = cancellable(client, kind, name)
        await noted(backends, name, over=False)
        call.cancel()
        check(f"the client gives a call up ({kind})", await call.code() == grpc.StatusCode.CANCELLED)
        seen = await noted(backends, name)
        check(f"the backend sees that ({kind})", seen["how"] == "cancelled", seen)


def cancellable(client, kind, name):
    metadata = [("x-call", name), ("x-stay", "on")]
    match kind:
        case "unary":
            return client.unary(b"hang", metadata=metadata)
        case "count":
            return client.count(counted(10_000, pause=0.01), metadata=metadata)
        case "gather" | "talk":
            return getattr(client, kind)(metadata=metadata)


async def noted(backends, name, over=True):
    """What one of the backends noted of a call: that it is over, or that it runs."""

    async def look():
        while True:
            for seen in await asyncio.gather(*(one.seen(name) for one in backends)):
                if seen and (seen["how"] == "running") != over:
                    return seen
            await asyncio.sleep(0.02)

    return await asyncio.wait_for(look(), 10)

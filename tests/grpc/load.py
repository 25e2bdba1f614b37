"""Calls of all four kinds, one after the other without a pause, while the edge is restarted and a backend drained."""

import asyncio
import json
from collections import Counter

import grpc

from client import Client, backend, channel, cookie, counted
from report import check, note

CLIENTS = 8
RESTARTS = 5
PAUSE = 0.6
# Long enough to outlive the worker that it began with.
STREAM = {"messages": 40, "pause": 0.05}


class Caller:
    """One client with a channel and a cookie of its own, that calls until it is told to stop."""

    def __init__(self, address, stop):
        self.channel = channel(address)
        self.client = Client(self.channel)
        self.stop = stop
        self.cookies = []
        self.home = None
        self.done = Counter()
        self.wrong = []

    async def visit(self):
        call = self.client.unary(b"")
        self.home, self.cookies = await backend(call), cookie(await call.initial_metadata())

    async def run(self):
        await asyncio.gather(*(self._repeat(kind) for kind in (self.unary, self.gather, self.count, self.talk)))
        await self.channel.close()

    async def _repeat(self, kind):
        while not self.stop.is_set():
            try:
                call, good = await kind()
                at = await backend(call)
                if not good:
                    self.wrong.append(f"{kind.__name__}: another answer")
                if at != self.home:
                    self.wrong.append(f"{kind.__name__}: at {at}, not at {self.home}")
                self.done[kind.__name__] += 1
            except grpc.aio.AioRpcError as error:
                self.wrong.append(f"{kind.__name__}: {error.code().name}: {error.details()}")
                await asyncio.sleep(0.05)
            # What is said to a call that is over already.
            except asyncio.InvalidStateError as error:
                self.wrong.append(f"{kind.__name__}: {error}")

    async def unary(self):
        call = self.client.unary(b"hello", metadata=self.cookies)
        return call, await call == b"hello"

    async def gather(self):
        async def messages():
            for _ in range(20):
                yield bytes(1000)
                await asyncio.sleep(0.02)

        call = self.client.gather(messages(), metadata=self.cookies)
        return call, json.loads(await call) == {"count": 20, "size": 20_000}

    async def count(self):
        call = self.client.count(counted(**STREAM), metadata=self.cookies)
        return call, [int(message) async for message in call] == list(range(STREAM["messages"]))

    async def talk(self):
        call, good = self.client.talk(metadata=self.cookies), True
        for number in range(STREAM["messages"]):
            await call.write(b"%d" % number)
            good = good and await call.read() == b"%d" % number
            await asyncio.sleep(STREAM["pause"])
        await call.done_writing()
        return call, good and await call.read() is grpc.aio.EOF


async def run(homing, backends):
    stop = asyncio.Event()
    callers = [Caller(homing.address, stop) for _ in range(CLIENTS)]
    await asyncio.gather(*(caller.visit() for caller in callers))
    note(f"clients at home: {dict(Counter(caller.home for caller in callers))}")
    calls = asyncio.gather(*(caller.run() for caller in callers))
    try:
        await asyncio.sleep(PAUSE)
        for _ in range(RESTARTS):
            await homing.command("restart")
            await asyncio.sleep(PAUSE)
        await homing.command("drain", f"echo/{backends[0].id}")
        strangers = await visit_anew(homing.address, 20)
        await asyncio.sleep(PAUSE)
    finally:
        stop.set()
        await asyncio.wait_for(calls, 30)
    done = sum((caller.done for caller in callers), Counter())
    wrong = Counter(text for caller in callers for text in caller.wrong)
    kinds = {"unary", "gather", "count", "talk"}
    check(f"{RESTARTS} restarts and a drain: no call fails or is away from home", not wrong, dict(wrong) or dict(done))
    check("calls of every kind were made all the time", all(done[kind] > CLIENTS for kind in kinds), dict(done))
    check("no new client comes to a backend that is drained", backends[0].id not in strangers, dict(strangers))


async def visit_anew(address, count):
    async with channel(address) as edge:
        client = Client(edge)
        return Counter([await backend(client.unary(b"")) for _ in range(count)])

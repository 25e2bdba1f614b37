"""Clients and servers of gRPC on both sides of Homing: python run.py PATH_TO_BINARY"""

import asyncio
import sys
import tempfile
from pathlib import Path

import calls
import load
from edge import Homing, start_backend
from report import check, failures, note, summary


async def main(binary):
    children = []
    with tempfile.TemporaryDirectory(prefix="homing-grpc-") as directory:
        try:
            backends = await asyncio.gather(*(start_backend(f"web.{number}") for number in (1, 2, 3)))
            children += backends
            homing = await Homing.start(binary, directory, backends)
            children.append(homing)
            for scenario in (calls, load):
                await play(scenario, homing, backends)
        finally:
            await asyncio.gather(*(child.end() for child in children))
    summary()
    return 1 if failures() else 0


async def play(scenario, homing, backends):
    before = failures()
    try:
        await scenario.run(homing, backends)
    except Exception as error:
        check(f"{scenario.__name__}: the scenario runs", False, repr(error))
    if failures() > before:
        for line in homing.tail[-40:]:
            note(f"homing: {line}")


sys.exit(asyncio.run(main(Path(sys.argv[1]).resolve())))

"""Homing in a fresh directory, and the backends behind it."""

import asyncio
import json
import re
import sys
import urllib.request
from pathlib import Path

PATIENCE = 20
HERE = Path(__file__).parent

CONFIG = """\
state_dir: "{directory}/state"
server: {{ threads: 2, grace_period: 2s, restart_grace_period: 1m }}
admin: {{ address: 127.0.0.1:0 }}
access_log: {{ format: json, path: "{directory}/access.log" }}
listeners:
  - {{ address: 127.0.0.1:0, protocols: [h2c] }}
apps:
  - name: echo
    domains: [127.0.0.1]
    affinity: {{ idle: 24h }}
    health: {{ grpc: on, interval: 1s, timeout: 1s }}
    backend_protocol: h2c
    backends:
{backends}
"""


class Process:
    """A child that announces itself by a line on one of its streams."""

    def __init__(self, process, lines):
        self.process = process
        self.tail = []
        self._grown = asyncio.Event()
        self._reader = asyncio.create_task(self._read(lines))

    async def _read(self, lines):
        async for line in lines:
            self.tail.append(line.decode().rstrip())
            self._grown.set()

    async def announced(self, pattern):
        async def look():
            while True:
                self._grown.clear()
                for line in self.tail:
                    if match := re.search(pattern, line):
                        return match[1]
                await self._grown.wait()

        return await asyncio.wait_for(look(), PATIENCE)

    async def end(self):
        if self.process.returncode is None:
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), PATIENCE)
        except asyncio.TimeoutError:
            self.process.kill()
            await self.process.wait()


async def start_backend(id):
    command = [sys.executable, HERE / "backend.py", id]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    child = Process(process, process.stdout)
    child.id = id
    child.address = f"127.0.0.1:{await child.announced(r'^{.port.: ([0-9]+)}$')}"
    return child


async def ready(url):
    while True:
        try:
            await asyncio.to_thread(urllib.request.urlopen, url, timeout=2)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            return


class Homing(Process):
    """A Homing that runs; `address` is where it speaks h2c."""

    @classmethod
    async def start(cls, binary, directory, backends):
        listed = "\n".join(f"      - {{ id: {child.id}, address: {child.address} }}" for child in backends)
        file = Path(directory) / "homing.yaml"
        (Path(directory) / "state").mkdir()
        file.write_text(CONFIG.format(directory=directory, backends=listed))
        command = [binary, "run", "-c", file]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        self = cls(process, process.stderr)
        self.binary, self.file = binary, file
        self.address = await self.announced(r"(?<!admin )listening .*address=(\S+)")
        admin = await self.announced(r"admin listening .*address=(\S+)")
        await asyncio.wait_for(ready(f"http://{admin}/readyz"), PATIENCE)
        return self

    async def command(self, *words):
        """Runs a command of Homing on this one."""
        words = [self.binary, words[0], "-c", self.file, *words[1:]]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        if process.returncode != 0:
            raise RuntimeError(f"{words[1]}: {said.decode().strip()}")

    def requests(self):
        """The lines of the access log."""
        return [json.loads(line) for line in (self.file.parent / "access.log").read_text().splitlines()]

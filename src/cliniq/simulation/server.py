"""A server of the play's own: started as anybody would, killed and started anew if asked."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import httpx2

from cliniq.platform.settings import inherited

READY_SECONDS = 60
STOP_SECONDS = 20
RATE_SCALE = 100_000  # a clinic's day in a minute is more than anybody may ask


class ServerRefused(Exception):
    """The play's own server does not start; what it said is in its journal."""


class OwnServer:
    """A server process; `settings` are what it is told beside what this process was."""

    def __init__(self, settings: Mapping[str, str], journal: Path) -> None:
        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        own = {"CLINIQ_PORT": str(self.port), "CLINIQ_RATE_SCALE": str(RATE_SCALE)}
        self._environment = inherited(own | dict(settings))
        self._journal = journal
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it answers. Raises: ServerRefused."""
        with self._journal.open("ab") as journal:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "cliniq.cli.main",
                "up",
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                start_new_session=True,  # Ctrl-C is for the play, which stops it in order
            )
        until = monotonic() + READY_SECONDS
        async with httpx2.AsyncClient(trust_env=False) as client:
            while not await self._answers(client):
                if self._process.returncode is not None or monotonic() > until:
                    raise ServerRefused(f"The server does not start: see {self._journal}.")
                await asyncio.sleep(0.05)

    async def _answers(self, client: httpx2.AsyncClient) -> bool:
        try:
            return (await client.get(f"{self.address}/health/ready")).is_success
        except httpx2.TransportError:
            return False

    async def kill(self) -> None:
        """End it at once, as a machine that loses power would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to stop."""
        await self._end(signal.SIGTERM)

    async def _end(self, by: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(by)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def own_server(settings: Mapping[str, str], journal: Path) -> AsyncIterator[OwnServer]:
    """Run a server for as long as the play lasts. Raises: ServerRefused."""
    server = OwnServer(settings, journal)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""The real server: the console script in a process of its own, asked over TCP."""

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from os import defpath
from pathlib import Path

import httpx2

from tests.hatchery import (
    SCRIPT,
    Hatched,
    Program,
    allow_files,
    hatch,
    is_hatched,
    run_to_end,
)
from tests.support import KEYED, SECRET, Client

BOUND_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Served:
    """A `cliniq up` or `cliniq serve` that runs; what it said is in `journal`."""

    process: "subprocess.Popen[bytes] | Hatched"
    port: int
    journal: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def live(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/v1/live"

    def said(self) -> str:
        return self.journal.read_text(encoding="utf-8", errors="replace")

    def client(self) -> Client:
        return httpx2.AsyncClient(
            base_url=self.address,
            trust_env=False,
            timeout=BOUND_SECONDS,
            event_hooks=KEYED,
        )

    async def ready(self) -> None:
        """Wait until it says that it serves."""
        deadline = time.monotonic() + BOUND_SECONDS
        async with self.client() as client:
            while time.monotonic() < deadline:
                assert self.process.poll() is None, self.said()
                with suppress(httpx2.TransportError):
                    if (await client.get("/health/ready")).status_code == 200:
                        return
                await asyncio.sleep(0.05)
        raise AssertionError(f"not ready within {BOUND_SECONDS} s: {self.said()}")

    async def ended(self) -> int:
        """Wait for its end, and answer with the exit code."""
        try:
            return await asyncio.to_thread(self.process.wait, BOUND_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    async def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to stop, and have it end well."""
        self.process.send_signal(by)
        code = await self.ended()
        assert code == 0, (code, self.said())
        assert "Traceback" not in self.said(), self.said()


@dataclass
class Installation:
    """A folder, a port and settings: whatever makes two starts the same installation."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    program: Program = (SCRIPT,)

    @property
    def database(self) -> Path:
        """Name the folder of the embedded server, where there is one."""
        return self.folder / "var" / "postgres"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": defpath,
            "CLINIQ_DATA_DIR": str(self.folder / "var"),
            "CLINIQ_SECRET": SECRET,
            "CLINIQ_PORT": str(self.port),
            **self.settings,
        }

    def start(self, *words: str) -> Served:
        """Start the program with these words, and wait for nothing."""
        allow_files()
        self.folder.mkdir(parents=True, exist_ok=True)
        journal = self.folder / "journal"
        if is_hatched(self.program):
            journal.write_bytes(b"")
            quick = hatch(words, self.folder, self.environment, journal, journal)
            return Served(quick, self.port, journal)
        with journal.open("wb") as said:
            process = subprocess.Popen(
                (*self.program, *words),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        return Served(process, self.port, journal)

    @asynccontextmanager
    async def running(self, *words: str) -> AsyncIterator[Served]:
        """Start `cliniq` with these words; have it stopped well unless the test has ended it."""
        served = self.start(*words)
        try:
            await served.ready()
            yield served
        except BaseException:
            served.process.kill()
            served.process.wait()
            raise
        if served.process.poll() is None:
            await served.stop()

    async def tried(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run `cliniq` with these words to its end."""
        return await asyncio.to_thread(
            run_to_end, words, self.folder, self.environment, self.program
        )

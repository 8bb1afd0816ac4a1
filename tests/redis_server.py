"""A Redis of a test's own, to be restarted, killed and stopped."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import pytest

BOUND_SECONDS = 30


class RedisHost(Protocol):
    """Another machine, as far as Redis can tell."""

    @property
    def far(self) -> str:
        """Its address."""

    def inside(self, *command: str) -> Sequence[str]:
        """Write a command so that it runs there."""


class RedisServer:
    """A server on a free port that it keeps when it is started again."""

    def __init__(self, program: str, folder: Path, host: RedisHost | None = None) -> None:
        self.address = host.far if host else "127.0.0.1"
        self._program = tuple(host.inside(program)) if host else (program,)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"redis://{self.address}:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        asked = (
            f"--port {self.port} --bind {self.address} --protected-mode no"
            " --appendonly no --daemonize no"
        )
        self._process = subprocess.Popen(
            (*self._program, *asked.split(), "--save", "", "--dir", str(self._folder)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + BOUND_SECONDS
        while not self._answers():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((self.address, self.port), 1) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")
        return False

    def signal(self, what: signal.Signals) -> None:
        """Send it a signal; of what ends it, wait for the end."""
        assert self._process is not None
        self._process.send_signal(what)
        if what not in {signal.SIGSTOP, signal.SIGCONT}:
            self._process.wait(BOUND_SECONDS)

    def stop(self) -> None:
        """End it, if it runs, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)


@contextmanager
def own_redis(host: RedisHost | None = None) -> Iterator[RedisServer]:
    """Start a Redis; where there is no program for it that is a failure in CI, else a reason."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        if "CI" in os.environ:  # noqa: TID251 - the tests' own setting
            pytest.fail("redis-server is missing")
        pytest.skip("redis-server is not installed")
    with TemporaryDirectory(prefix="cliniq-redis-") as folder:
        server = RedisServer(program, Path(folder), host)
        try:
            server.start()
            yield server
        finally:
            server.stop()

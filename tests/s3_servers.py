"""S3 servers of the tests' own: moto's, and rclone's, which checks every signature."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

import pytest

from cliniq.platform.backends import Backends

BUCKET = "clinics-of-tests"
KEY_ID, SECRET_KEY = "TESTKEYTESTKEYTESTKEY", "a secret of the tests"
BOUND_SECONDS = 60


@dataclass(frozen=True)
class S3Server:
    """A server with a bucket."""

    endpoint: str
    checks_signatures: bool
    process: "subprocess.Popen[bytes]"

    @property
    def backends(self) -> Backends:
        return Backends(
            storage_url=f"s3://{BUCKET}/some/prefix?endpoint={self.endpoint}&region=eu-central-1",
            storage_key_id=KEY_ID,
            storage_secret=SECRET_KEY,
        )


@contextmanager
def moto() -> Iterator[S3Server]:
    with _serving(_program("moto_server"), "-H", "127.0.0.1", "-p", "{port}") as server:
        url = f"{server.endpoint}/{BUCKET}"
        with urlopen(Request(url, method="PUT")) as made:  # noqa: S310 - a port of our own
            assert made.status == 200
        yield server


@contextmanager
def rclone() -> Iterator[S3Server]:
    with TemporaryDirectory(prefix="cliniq-s3-") as folder:
        (Path(folder) / BUCKET).mkdir()
        key = f"--auth-key={KEY_ID},{SECRET_KEY}"
        command = ("serve", "s3", folder, "--addr", "127.0.0.1:{port}", key, "--config", os.devnull)
        with _serving(_program("rclone"), *command, checks_signatures=True) as server:
            yield server


def _program(name: str) -> str:
    """Find a program of the environment; where it is missing: a failure in CI, else a reason."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        if "CI" in os.environ:  # noqa: TID251 - the tests' own setting
            pytest.fail(f"{name} is missing")
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def _serving(program: str, *arguments: str, checks_signatures: bool = False) -> Iterator[S3Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    process = subprocess.Popen(
        (program, *(each.replace("{port}", str(port)) for each in arguments)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + BOUND_SECONDS
        while not _listens(port):
            assert process.poll() is None, program
            assert time.monotonic() < deadline, program
            time.sleep(0.05)
        yield S3Server(f"http://127.0.0.1:{port}", checks_signatures, process)
    finally:
        process.kill()
        process.wait(BOUND_SECONDS)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

"""A PgBouncer of the tests' own in transaction mode, before whichever PostgreSQL they use."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cliniq.platform.provision import LOGIN

ASKED = "CLINIQ_TEST_POOLER" in os.environ  # noqa: TID251 - the tests' own setting
BOUND_SECONDS = 30
SERVERS = 5  # connections to PostgreSQL: fewer than the pools of one process have to PgBouncer

# As docs/operations.md tells an operator to set it.
SETTINGS = """
[databases]
* = host={host} port={port}

[pgbouncer]
pool_mode = transaction
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
default_pool_size = {servers}
max_client_conn = 1000
logfile = {folder}/log
"""


@contextmanager
def own_pooler(server: str) -> Iterator[int]:
    """Start it before a server, by that server's URL; yield the port on which it listens.

    Where there is no program for it that is a failure in CI, else a reason.
    """
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        if "CI" in os.environ:  # noqa: TID251 - the tests' own setting
            pytest.fail("pgbouncer is missing")
        pytest.skip("pgbouncer is not installed")
    parts = urlsplit(server)
    query = parse_qs(parts.query)
    host = query.get("host", [parts.hostname or "127.0.0.1"])[0]
    with TemporaryDirectory(prefix="cliniq-pooler-") as name:
        folder, listen = Path(name), _free_port()
        _write(folder, host, query.get("port", [str(parts.port or 5432)])[0], listen)
        process = subprocess.Popen(
            (program, "-q", str(folder / "settings")),
            stdin=subprocess.DEVNULL,
            **(_user(folder, host) if os.geteuid() == 0 else {}),
        )
        try:
            _wait(process, listen, folder / "log")
            yield listen
        finally:
            process.kill()
            process.wait()


def through(url: str, port: int) -> str:
    """Rewrite a URL of the server so that it leads through PgBouncer."""
    parts = urlsplit(url)
    login = parts.username or ""
    return parts._replace(netloc=f"{login}@127.0.0.1:{port}", query="sslmode=disable").geturl()


def _write(folder: Path, host: str, port: str, listen: int) -> None:
    folder.joinpath("users").write_text(f'"{LOGIN}" ""\n', encoding="ascii")
    said = SETTINGS.format(host=host, port=port, listen=listen, folder=folder, servers=SERVERS)
    folder.joinpath("settings").write_text(said, encoding="ascii")


def _user(folder: Path, host: str) -> dict[str, Any]:
    """Name whom it runs as, since it refuses to be root: whoever may use the server's socket."""
    owner = Path(host).stat().st_uid if host.startswith("/") else 0
    account = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + BOUND_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text() if log.exists() else "it said nothing"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError("pgbouncer does not listen")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

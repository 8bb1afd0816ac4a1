"""The embedded database, shared by processes that come, go, and are killed."""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from cliniq.platform import embedded
from cliniq.platform.embedded import (
    EmbeddedDatabaseRefused,
    embedded_server,
    is_running,
    programs,
)

BOUND_SECONDS = 30
SOURCES = Path(embedded.__file__).parents[2]
NOBODY = 65534
STARTED = "select pg_postmaster_start_time()::text"

PROGRAM = """
import asyncio, concurrent.futures.thread, json, os, signal, sys  # root alone may read it
from pathlib import Path

sources, folder, user = sys.argv[1:]
sys.path.insert(0, sources)

import asyncpg, structlog
from cliniq.platform.embedded import EmbeddedDatabaseRefused, embedded_server, programs

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever we inherit

def tell(**facts):
    print(json.dumps(facts), flush=True)

async def use():
    async with embedded_server(Path(folder)) as dsn:
        connection = await asyncpg.connect(dsn)
        tell(started=await connection.fetchval("select pg_postmaster_start_time()::text"))
        left = asyncio.Event()
        asyncio.get_running_loop().add_reader(0, left.set)
        try:
            await left.wait()
        finally:
            await asyncio.sleep(0.05)
            tell(served=await connection.fetchval("select true"))
            await connection.close()

if user:
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
if os.access(programs() / "postgres", os.X_OK):
    try:
        asyncio.run(use())
    except EmbeddedDatabaseRefused as refusal:
        tell(refused=str(refusal))
else:
    tell(unreachable=str(programs()))
"""


class Neighbour:
    """Another process that uses the database until it is told to leave."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def said(self, fact: str) -> str | bool:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"ended without a word of {fact!r}"
        told = json.loads(line)
        if "unreachable" in told:
            pytest.skip(f"an ordinary user cannot reach {told['unreachable']}")
        assert fact in told, told
        answer: str | bool = told[fact]
        return answer

    def leave(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self.said("served")
        assert self.process.wait(BOUND_SECONDS) == 0


@contextmanager
def neighbour(folder: Path, *, user: int | None = None) -> Iterator[Neighbour]:
    command = (sys.executable, "-c", PROGRAM, SOURCES, folder, "" if user is None else str(user))
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # its own process group, for Ctrl-C
    ) as process:
        bound = threading.Timer(BOUND_SECONDS, process.kill)
        bound.start()
        try:
            yield Neighbour(process)
        finally:
            bound.cancel()
            process.kill()


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place for one database; a server that a failed test leaves behind ends with it.

    Its path is short enough for the socket to lie in it.
    """
    place = tmp_path_factory.mktemp("db") / "var" / "postgres"
    yield place
    with suppress(OSError, ValueError, IndexError):
        os.kill(pid_of(place), signal.SIGQUIT)


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder where an ordinary user may create one."""
    path = Path(tempfile.mkdtemp(prefix="cliniq-test-"))
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    yield path
    with suppress(OSError, ValueError, IndexError):
        os.kill(pid_of(path / "postgres"), signal.SIGQUIT)
    shutil.rmtree(path)


def ordinary_user() -> int | None:
    return NOBODY if os.geteuid() == 0 else None


def pid_of(folder: Path) -> int:
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def state_of(folder: Path) -> str:
    command = (programs() / "pg_controldata", folder / "data")
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return next(line for line in said.splitlines() if "cluster state" in line).split(":")[1].strip()


async def ask(dsn: str, question: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        return str(await connection.fetchval(question))
    finally:
        await connection.close()


async def answer_of(folder: Path, question: str = "select 'served'") -> str:
    async with embedded_server(folder) as dsn:
        return await ask(dsn, question)


def refusal_of(folder: Path) -> str:
    with pytest.raises(EmbeddedDatabaseRefused) as refused:
        asyncio.run(answer_of(folder))
    return str(refused.value)


def test_folder_of_another_major_version_is_refused_in_one_sentence(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "gate").touch()
    (folder / "data" / "PG_VERSION").write_text("16\n")
    assert "was made by PostgreSQL 16 and this release brings 18" in refusal_of(folder)


def test_folder_used_for_something_else_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    tmp_path.chmod(0o755)
    assert "holds something else than Cliniq's database" in refusal_of(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be used: file exists" in refusal_of(tmp_path / "file")


def test_ordinary_user_is_refused_a_folder_without_rights_in_one_sentence(common: Path) -> None:
    common.chmod(0o500)
    try:
        with neighbour(common / "postgres", user=ordinary_user()) as stranger:
            refusal = stranger.said("refused")
    finally:
        common.chmod(0o700)
    assert refusal == (
        f"The database folder {common / 'postgres'} cannot be used: "
        f"permission denied ({common / 'postgres'})."
    )


def test_ordinary_user_runs_a_database_and_another_process_of_theirs_shares_it(
    common: Path,
) -> None:
    folder = common / "postgres"
    with neighbour(folder, user=ordinary_user()) as first:
        started = first.said("started")
        with neighbour(folder, user=ordinary_user()) as second:
            assert second.said("started") == started
            first.leave()
            assert is_running(folder)
            second.leave()
    assert state_of(folder) == "shut down"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run another user's database")
def test_root_leaves_the_database_of_an_ordinary_user_usable_to_them(common: Path) -> None:
    folder = common / "postgres"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    assert asyncio.run(answer_of(folder)) == "served"
    with neighbour(folder, user=NOBODY) as owner:
        owner.said("started")
        owner.leave()
    assert state_of(folder) == "shut down"


def test_database_speaks_on_its_socket_only_and_stops_with_its_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use() -> None:
        async with embedded_server(folder) as dsn:
            assert await ask(dsn, "show listen_addresses") == ""
            assert await ask(dsn, "show unix_socket_permissions") == "0700"
            assert await ask(dsn, "show fsync") == "on"
            assert await ask(dsn, "select usesuper from pg_user where usename = user") == "True"

    monkeypatch.setenv("PGPORT", "1")
    assert not is_running(folder)
    asyncio.run(use())
    assert not is_running(folder)
    assert state_of(folder) == "shut down"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_server_inherits_neither_our_secrets_nor_the_groups_of_root(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def heard() -> list[str]:
        async with embedded_server(folder) as dsn:
            connection = await asyncpg.connect(dsn)
            await connection.execute("create temporary table heard (line text)")
            await connection.execute(f"copy heard from program '{program}'")
            lines = [str(line) for (line,) in await connection.fetch("table heard")]
            await connection.close()
            return lines

    program = "echo ${CLINIQ_SECRET:-nothing}; id -G"
    monkeypatch.setenv("CLINIQ_SECRET", "open sesame")
    before = os.getgroups()
    if os.geteuid() == 0:
        os.setgroups([0])
    try:
        told, groups = asyncio.run(heard())
    finally:
        if os.geteuid() == 0:
            os.setgroups(before)
    assert told == "nothing"
    assert os.geteuid() != 0 or "0" not in groups.split()


def test_programs_of_the_wheel_reach_the_database_by_the_same_dsn(folder: Path) -> None:
    async def use() -> None:
        async with embedded_server(folder) as dsn:
            for command in (("psql", "-c", "select 1"), ("pgbench", "-i", "-q"), ("pg_dump",)):
                run = (programs() / command[0], *command[1:], dsn)
                await asyncio.to_thread(subprocess.run, run, check=True, capture_output=True)

    asyncio.run(use())


def test_last_one_out_stops_the_server_in_whichever_process(folder: Path) -> None:
    async def use() -> str:
        async with embedded_server(folder) as dsn:
            started = await ask(dsn, STARTED)
            async with embedded_server(folder) as again:
                assert again == dsn
            assert await ask(dsn, STARTED) == started
            assert visitor.said("started") == started
        return started

    with neighbour(folder) as visitor:
        asyncio.run(use())
        assert is_running(folder)
        visitor.leave()
    assert not is_running(folder)
    assert state_of(folder) == "shut down"


def test_two_who_start_at_the_same_moment_get_the_same_server(folder: Path) -> None:
    with neighbour(folder) as one, neighbour(folder) as other:
        assert one.said("started") == other.said("started")
        one.leave()
        other.leave()
    assert state_of(folder) == "shut down"


def test_server_of_a_killed_user_is_taken_over_and_stopped(folder: Path) -> None:
    with neighbour(folder) as victim:
        started = victim.said("started")
        victim.process.kill()
        victim.process.wait()
    assert is_running(folder)
    assert asyncio.run(answer_of(folder, STARTED)) == started
    assert state_of(folder) == "shut down"


def test_pid_files_of_a_crash_do_not_prevent_a_start(folder: Path) -> None:
    owner = None
    for crash in (
        "number of nobody",
        "number of a program of the same user",
        "number of ourselves",
    ):
        with neighbour(folder) as victim:
            victim.said("started")
            os.kill(pid_of(folder), signal.SIGKILL)
            victim.process.kill()
        if os.geteuid() == 0:
            owner = folder.stat().st_uid
        with subprocess.Popen(("sleep", str(BOUND_SECONDS)), user=owner) as innocent:
            numbers = {crash: None, "number of a program of the same user": innocent.pid}
            numbers["number of ourselves"] = os.getpid()
            for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
                lock = folder / "data" / name
                first, rest = lock.read_text().split("\n", 1)
                lock.write_text(f"{numbers[crash] or first}\n{rest}")
            assert not is_running(folder)
            assert asyncio.run(answer_of(folder)) == "served", crash
            assert innocent.poll() is None
            innocent.kill()
        assert state_of(folder) == "shut down"


def test_busy_worker_of_a_killed_server_delays_a_start_and_does_not_prevent_it(
    folder: Path,
) -> None:
    async def kill_while_busy(dsn: str) -> None:
        busy = asyncio.create_task(ask(dsn, "select count(*) from generate_series(1, 2000000)"))
        await asyncio.sleep(0.1)
        os.kill(pid_of(folder), signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert not is_running(folder)
        assert await answer_of(folder) == "served"
        await asyncio.gather(busy, return_exceptions=True)

    async def use() -> None:
        async with embedded_server(folder) as dsn:
            await kill_while_busy(dsn)

    asyncio.run(use())


def test_torn_pid_file_and_torn_creation_do_not_prevent_a_start(folder: Path) -> None:
    (folder / "unfinished-1" / "base").mkdir(parents=True)
    (folder / "gate").touch()
    assert asyncio.run(answer_of(folder)) == "served"
    assert not [*folder.glob("unfinished-*")]
    for torn in ("", "no number\n\n"):
        (folder / "data" / "postmaster.pid").write_text(torn)
        assert asyncio.run(answer_of(folder)) == "served", torn


@pytest.mark.parametrize("name", ["long" * 30, "$(false) `'\",ü"])
def test_any_path_works_and_leaves_nothing_in_the_temporary_folder(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = Path(tempfile.mkdtemp(prefix="c"))
    temporary.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    answer = asyncio.run(answer_of(tmp_path / name, "show data_directory"))
    assert answer == str(tmp_path / name / "data")
    temporary.rmdir()


def wait_for_creation(folder: Path) -> None:
    bound = time.monotonic() + BOUND_SECONDS
    while not [*folder.glob("unfinished-*")]:
        assert time.monotonic() < bound
        time.sleep(0.01)


def test_user_killed_while_creating_the_database_spoils_nothing(folder: Path) -> None:
    with neighbour(folder) as victim:
        wait_for_creation(folder)
        victim.process.kill()
    assert asyncio.run(answer_of(folder)) == "served"


def test_ctrl_c_twice_while_creating_the_database_waits_for_its_end(folder: Path) -> None:
    with neighbour(folder) as user:
        wait_for_creation(folder)
        os.killpg(user.process.pid, signal.SIGINT)
        time.sleep(0.2)
        os.killpg(user.process.pid, signal.SIGINT)
        user.process.wait(BOUND_SECONDS)
    assert state_of(folder) == "shut down"


def test_ctrl_c_reaches_us_and_not_the_server(folder: Path) -> None:
    with neighbour(folder) as user:
        user.said("started")
        os.killpg(user.process.pid, signal.SIGINT)
        assert user.said("served")
        user.process.wait(BOUND_SECONDS)
    assert state_of(folder) == "shut down"


def test_user_cancelled_while_starting_leaves_no_server_and_no_lock(folder: Path) -> None:
    async def give_up() -> None:
        task = asyncio.create_task(answer_of(folder))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.sleep(0.1)
        task.cancel()
        os.close(gate)
        with pytest.raises(asyncio.CancelledError):
            await task

    folder.mkdir(parents=True)
    gate = os.open(folder / "gate", os.O_RDWR | os.O_CREAT)
    fcntl.flock(gate, fcntl.LOCK_EX)
    asyncio.run(give_up())
    assert not is_running(folder)
    assert asyncio.run(answer_of(folder)) == "served"
    assert state_of(folder) == "shut down"


def test_event_loop_stays_awake_while_the_server_starts_and_stops(folder: Path) -> None:
    async def naps() -> AsyncIterator[float]:
        loop, task = asyncio.get_running_loop(), asyncio.create_task(answer_of(folder))
        while not task.done():
            before = loop.time()
            await asyncio.sleep(0.01)
            yield loop.time() - before
        assert await task == "served"

    async def lengths() -> list[float]:
        return [nap async for nap in naps()]

    taken = asyncio.run(lengths())
    assert max(taken) < sum(taken) / 3

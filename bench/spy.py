"""Where a server spends its time under load, as py-spy sees it."""

import asyncio
import re
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from bench.ground import PROGRAMS, Ground

RATE = 200
LARGEST = 3


@asynccontextmanager
async def spying(ground: Ground, pid: int) -> AsyncIterator[list[str]]:
    """Watch a process; the list that this yields is filled at the end, with lines to print."""
    stacks = ground.folder / "stacks"
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAMS / "py-spy"), "record", "--pid", str(pid), "--format", "raw"),
        *("--function", "--gil", "--rate", str(RATE), "--output", str(stacks)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    lines: list[str] = []
    await asyncio.sleep(1)
    try:
        yield lines
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        said, _ = await process.communicate()
        if stacks.exists():
            lines += _largest(stacks.read_text(encoding="utf-8").splitlines())
        else:
            lines.append(f"py-spy cannot look: {said.decode(errors='replace').strip()}")


def _largest(stacks: Iterable[str]) -> list[str]:
    """Sum up self time, by function and by module."""
    functions: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    for stack in stacks:
        frames, _, samples = stack.rpartition(" ")
        leaf = frames.rpartition(";")[2]
        functions[leaf] += int(samples)
        modules[_module(leaf)] += int(samples)
    total = functions.total() or 1
    return [
        f"self time by {what}: "
        + ", ".join(f"{name} {n / total:.0%}" for name, n in found.most_common(LARGEST))
        for what, found in (("function", functions), ("module", modules))
    ]


def _module(frame: str) -> str:
    """Name the package that a frame belongs to."""
    found = re.search(r"\((.+?)(?::\d+)?\)$", frame)
    return found[1].split("/")[0] if found else frame

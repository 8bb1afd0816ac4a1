"""One of a crew, for tests: `crewmate.py <folder> <habits> <line>`. What it does is in its habits.

It writes its number into the folder when it begins, and `finished-<number>` when it ends well.
"""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

from cliniq.platform.line import Line

PAGE = b"# HELP tea_total Cups.\n# TYPE tea_total counter\ntea_total 1.0\n"


async def live(folder: Path, habits: set[str], end: socket.socket) -> None:
    told = asyncio.Event()
    times = 0

    def end_soon() -> None:
        nonlocal times
        times += 1
        if "stubborn" not in habits and ("slow" not in habits or times > 1):
            told.set()

    async def tell() -> bytes:
        return PAGE

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, end_soon)
    line = await Line.over(end, tell)
    if "asks" in habits:
        folder.joinpath("asked").write_bytes(await line.ask())
    if "late" not in habits:
        line.say_ready()
    ended = asyncio.create_task(line.ended())
    await asyncio.wait([ended, asyncio.create_task(told.wait())], return_when="FIRST_COMPLETED")
    folder.joinpath(f"finished-{os.getpid()}").touch()


def main() -> None:
    folder, words, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    habits = set(words.split(","))
    folder.joinpath(str(os.getpid())).touch()
    if "refuses" in habits:
        sys.exit(2)
    if "dies" in habits or folder.joinpath("die").exists():
        sys.exit(7)
    with socket.socket(fileno=number) as end:
        asyncio.run(live(folder, habits, end))


if __name__ == "__main__":
    main()

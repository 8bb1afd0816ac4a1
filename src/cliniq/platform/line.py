"""The line between a supervisor and a process of its crew: who is ready, metrics, either's end.

A pair of sockets, so that the kernel tells each side of the other's end, however it came.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cliniq.platform.endings import end_all

READY, ASK, TOLD = b"r", b"?", b"="
HEAD = struct.Struct(">cI")
LARGEST_BYTES = 64 << 20
PATIENCE_SECONDS = 2

Tell = Callable[[], Awaitable[bytes]]


class Line:
    """One end. Either side may ask the other for its metrics; `tell` answers for this one."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tell: Tell
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._tell = tell
        self._asking: deque[asyncio.Future[bytes]] = deque()
        self._answering: set[asyncio.Task[None]] = set()
        self.other_is_ready = asyncio.Event()
        self._hearing = asyncio.create_task(self._hear())

    @classmethod
    async def over(cls, end: socket.socket, tell: Tell) -> "Line":
        """Take over one end of a pair of sockets."""
        end.setblocking(False)  # noqa: FBT003 - a socket's own word
        return cls(*await asyncio.open_unix_connection(sock=end), tell)

    def say_ready(self) -> None:
        """Tell the other side that this one serves."""
        self._say(READY, b"")

    async def ask(self) -> bytes:
        """Have the other side's metrics. Raises: OSError, TimeoutError where there is none."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asking.append(answer)
        self._say(ASK, b"")
        if self._hearing.done():
            raise ConnectionResetError
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await answer

    async def ended(self) -> None:
        """Wait for the other side's end."""
        await asyncio.wait([self._hearing])

    async def close(self) -> None:
        """Hang up."""
        await end_all(self._hearing, *self._answering)
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def _say(self, kind: bytes, body: bytes) -> None:
        self._writer.write(HEAD.pack(kind, len(body)) + body)

    async def _hear(self) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    kind, size = HEAD.unpack(await self._reader.readexactly(HEAD.size))
                    if size > LARGEST_BYTES:
                        return
                    self._understand(kind, await self._reader.readexactly(size))
        finally:
            for answer in self._asking:
                if not answer.done():
                    answer.set_exception(ConnectionResetError())

    def _understand(self, kind: bytes, body: bytes) -> None:
        if kind == READY:
            self.other_is_ready.set()
        elif kind == ASK:
            # A task: who is asked may have to ask back.
            task = asyncio.create_task(self._answer())
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif kind == TOLD and self._asking:
            answer = self._asking.popleft()
            if not answer.done():
                answer.set_result(body)

    async def _answer(self) -> None:
        self._say(TOLD, await self._tell())

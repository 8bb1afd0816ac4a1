"""Live topics as Server-Sent Events: for boards, which only listen."""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Self
from uuid import UUID

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from cliniq.kernel.problem import DependencyUnavailable, Problem, RateLimitExceeded
from cliniq.platform.db import ReadUnit
from cliniq.platform.denials import Knock
from cliniq.platform.http.exchange import exchange_of
from cliniq.platform.http.guards import (
    Guard,
    Policy,
    clinic_named,
    entrance_of,
    signed_in,
)
from cliniq.platform.http.problems import problems
from cliniq.platform.http.topics import Reader, Topic
from cliniq.platform.http.traffic import address_of
from cliniq.platform.live import Connection
from cliniq.platform.live_frames import LONGEST_EPOCH

MEDIA_TYPE = "text/event-stream"
SILENCE_SECONDS = 15  # then a comment, so that nobody between us takes the stream for dead
PATIENCE_SECONDS = 10
_MARK = re.compile(rf"([0-9a-f]{{1,{LONGEST_EPOCH}}}):([0-9]{{1,18}})")

RESPONSES = problems(RateLimitExceeded, DependencyUnavailable) | {
    200: {
        "description": "`data` of each event is a frame as `/asyncapi.json` describes it; `id` is"
        " what `Last-Event-ID` resumes from; comments keep the stream alive.",
        "content": {
            MEDIA_TYPE: {
                "itemSchema": {  # as FastAPI describes streams of its own
                    "type": "object",
                    "required": ["data"],
                    "properties": {
                        "data": {"type": "string", "contentMediaType": "application/json"},
                        "id": {"type": "string"},
                    },
                }
            }
        },
    }
}


class Audience:
    """Somebody who is signed in and may ask to watch a kind of topic; the guard decides.

    It stands where the door of a route stands, but no transaction is open while a stream is.
    """

    def __init__(self, following: "Following", connection: HTTPConnection) -> None:
        self._following = following
        self._request = connection
        self._caller = signed_in(connection)
        self._clinic_id = clinic_named(connection, self._caller)
        self.is_open = True
        # Not for the clinic: that they belong there is asked later.
        self.knock = Knock(
            self._caller.person_id, None, following.words, "", exchange_of(connection).request_id
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def remember(self, problem: Problem) -> None:
        """Whoever was refused is remembered by the topic's door already."""

    async def follow(self, of_id: UUID) -> "EventStream":
        """Watch a topic, from where the reader left off where that can be had.

        Raises: what the guard refuses with; RATE_LIMIT_EXCEEDED 429 for too many streams.
        """
        request, caller = self._request, self._caller
        hub = entrance_of(request).hub
        address = address_of(request) or None
        connection = Connection(caller.session_id, caller.person_id, address)
        left_off = _MARK.fullmatch(request.headers.get("last-event-id", ""))
        epoch, since = (left_off[1], int(left_off[2])) if left_off else (None, None)
        reader = self._reader(of_id)
        hub.join(connection)
        try:
            await hub.subscribe(connection, reader.name, reader.load, since, epoch)
        except BaseException:
            hub.leave(connection)
            raise
        return EventStream(connection, hub.leave)

    def _reader(self, of_id: UUID) -> Reader:
        exchange, following = exchange_of(self._request), self._following
        return Reader(
            entrance_of(self._request),
            following.topic,
            following.guard,
            self._caller,
            self._clinic_id,
            of_id,
            f"GET {exchange.route}",
            exchange.request_id,
        )


class Following(Policy):
    """Lets in whoever passes a guard, to listen to a topic for as long as they like."""

    def __init__(self, topic: Topic, guard: Guard[ReadUnit]) -> None:
        self.topic = topic
        self.guard = guard

    @property
    @override
    def words(self) -> str:
        return self.guard.words

    @property
    @override
    def asks_where(self) -> bool:
        return self.guard.asks_where

    @property
    @override
    def refusals(self) -> Sequence[type[Problem]]:
        return self.guard.refusals

    async def __call__(self, connection: HTTPConnection) -> Audience:
        """Know the caller. Raises: UNAUTHENTICATED 401, REQUEST_INVALID 422 without a clinic."""
        return Audience(self, connection)


class EventStream(Response):
    """Frames as they come, until either side has had enough."""

    media_type: str | None = MEDIA_TYPE

    def __init__(self, connection: Connection, leave: Callable[[Connection], None]) -> None:
        super().__init__(headers={"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._connection = connection
        self._leave = leave
        self._ready = asyncio.Event()
        connection.attend(self._ready.set)

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks: list[asyncio.Task[None]] = []
        try:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            tasks = [asyncio.create_task(each) for each in (self._write(send), _gone(receive))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leave(self._connection)
            for task in tasks:
                task.cancel()
            await asyncio.gather(
                *tasks, return_exceptions=True
            )  # a reader who has gone is no error

    async def _write(self, send: Send) -> None:
        connection = self._connection
        while True:
            self._ready.clear()
            lines = b"".join(frame.lines for frame in connection.take())
            if lines or not connection.is_over:
                await _send(send, lines or b": beat\n\n", more=True)
            if connection.is_over and not connection.frames:
                await _send(send, b"", more=False)
                return
            try:
                await asyncio.wait_for(self._ready.wait(), SILENCE_SECONDS)
            except TimeoutError:
                continue


async def _send(send: Send, body: bytes, *, more: bool) -> None:
    """Send a piece; whoever takes nothing for `PATIENCE_SECONDS` is given up."""
    message = {"type": "http.response.body", "body": body, "more_body": more}
    await asyncio.wait_for(send(message), PATIENCE_SECONDS)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

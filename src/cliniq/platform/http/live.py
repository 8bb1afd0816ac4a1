"""The live socket: a one-use pass, then topics to watch. Rooms declare the topics."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from time import monotonic
from types import MappingProxyType, TracebackType
from typing import Annotated
from uuid import UUID

import msgspec
import structlog
from fastapi import APIRouter, Depends
from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from typing_extensions import override

from cliniq.kernel.ids import ClinicId
from cliniq.kernel.problem import (
    NotFound,
    Problem,
    RateLimitExceeded,
    RequestInvalid,
    Unauthenticated,
)
from cliniq.kernel.record import Record
from cliniq.kernel.scope import Caller, SelfScope
from cliniq.platform.db import ReadUnit, open_read_unit
from cliniq.platform.http.exchange import exchange_of
from cliniq.platform.http.guards import (
    Door,
    Entrance,
    Guard,
    Policy,
    entrance_of,
    signed_in,
)
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import GuardedRoute
from cliniq.platform.http.terms import terms
from cliniq.platform.http.topics import Reader, Topic
from cliniq.platform.http.traffic import Traffic, address_of
from cliniq.platform.http.wire import Wire, take_wire
from cliniq.platform.live import (
    INTERNAL_ERROR,
    POLICY_VIOLATION,
    SERVICE_RESTART,
    TRY_AGAIN_LATER,
    Connection,
    refusal,
)
from cliniq.platform.live_frames import Asked, Unsubscribe
from cliniq.platform.live_passes import PASS_LIFE
from cliniq.platform.live_turnstile import Turnstile

log = structlog.get_logger(__name__)

PASSES = "60/minute"
MOST_TOPICS = 32  # a family's queues and then some
FRAMES_A_MINUTE = 120
PATIENCE_SECONDS = 10

# What a socket needs of its scope once it is open; headers are the bulk of the rest.
_KEPT = frozenset({"app", "client", "cliniq.exchange", "state", "type"})

router = APIRouter(tags=["live"], route_class=GuardedRoute)


class PassOut(Record, frozen=True):
    """A one-use ticket to the socket. Units: `expires_in` in seconds."""

    live_pass: str
    expires_in: int


class LivePass(Policy):
    """Lets in whoever brings an unused pass, from a page of ours."""

    @property
    @override
    def words(self) -> str:
        return "live pass"

    async def __call__(self, connection: HTTPConnection) -> Caller:
        """Use the pass up.

        Raises: a refusal to open the socket, without a word on what was wrong.
        """
        entrance = entrance_of(connection)
        if not _same_origin(connection):
            raise WebSocketException(POLICY_VIOLATION)
        caller = await entrance.passes.redeem(connection.query_params.get("pass", ""))
        if caller is None:
            raise WebSocketException(POLICY_VIOLATION)
        await _ensure_signed_in(entrance, caller)
        return caller


async def _ensure_signed_in(entrance: Entrance, caller: Caller) -> None:
    """Refuse a pass whose sign-in has ended since it was bought."""
    seat = entrance.directory.seat_of_self(caller, None, strict=False)
    opening = open_read_unit(entrance.database, SelfScope(caller.person_id), seat)
    try:
        async with entrance.hub.turnstile.room, opening:
            pass
    except Unauthenticated:
        raise WebSocketException(POLICY_VIOLATION) from None


def _same_origin(connection: HTTPConnection) -> bool:
    """Tell whether a browser says that a page of ours opens the socket; programs say nothing."""
    origin = connection.headers.get("origin")
    if origin is None:
        return True
    host = connection.headers.get("host", "")
    return origin in {f"http://{host}", f"https://{host}", connection.app.state.address}


class InTurn:
    """A door that is opened when one's turn has come."""

    def __init__(self, door: Door[ReadUnit], turnstile: Turnstile) -> None:
        self._door = door
        self._turnstile = turnstile
        self.knock = door.knock
        self.remember = door.remember

    @property
    def is_open(self) -> bool:
        """Say whether it was opened."""
        return self._door.is_open

    async def __aenter__(self) -> ReadUnit:
        """Raises: RATE_LIMIT_EXCEEDED 429 where too many come at once; as the door."""
        await self._turnstile.turn()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._turnstile.room)
            unit = await stack.enter_async_context(self._door)
            self._stay = stack.pop_all()
        return unit

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stay.__aexit__(kind, error, trace)


class PassBuyer(Guard[ReadUnit]):
    """Lets in whoever is signed in, in their turn."""

    def __init__(self) -> None:
        super().__init__(ReadUnit, None, own="all")

    @override
    async def __call__(self, connection: HTTPConnection) -> InTurn:  # type: ignore[override]
        """Give the door. Raises: UNAUTHENTICATED 401."""
        return InTurn(await super().__call__(connection), entrance_of(connection).hub.turnstile)


@router.post(
    "/live/passes",
    status_code=201,
    responses=problems(RateLimitExceeded),
    **terms(no_key="it hands out a secret, and a new one is as good", traffic=Traffic.LIVE),
)
async def create_live_pass(
    unit: Annotated[ReadUnit, Depends(PassBuyer())],  # noqa: ARG001 - it has proved the sign-in
    connection: HTTPConnection,
) -> PassOut:
    """Buy a ticket to the live socket: one use, 30 s, ends with the sign-in.

    Raises: RATE_LIMIT_EXCEEDED 429.
    """
    entrance = entrance_of(connection)
    caller = signed_in(connection)
    await entrance.limits.hit(PASSES, "live-pass", str(caller.person_id))
    return PassOut(entrance.passes.sell(caller), int(PASS_LIFE.total_seconds()))


@router.websocket("/live")
async def watch(socket: WebSocket, caller: Annotated[Caller, Depends(LivePass())]) -> None:
    """Let one socket in; it is served outside of all layers, which cost more than the socket."""
    await socket.accept()
    exchange_of(socket).sequel = partial(_serve, socket.scope, caller)


async def _serve(scope: Scope, caller: Caller, receive: Receive, send: Send) -> None:
    """Serve one socket until either side has had enough."""
    socket = WebSocket(scope, receive, send)
    socket.client_state = socket.application_state = WebSocketState.CONNECTED
    hub = entrance_of(socket).hub
    connection = Connection(caller.session_id, caller.person_id, address_of(socket) or None)
    wire = take_wire(scope)
    for heavy in set(scope) - _KEPT:
        del scope[heavy]
    try:
        hub.join(connection)
    except Problem as problem:
        is_full = isinstance(problem, RateLimitExceeded)
        await socket.close(TRY_AGAIN_LATER if is_full else SERVICE_RESTART, problem.code)
        return
    mouth = _Mouth(socket, connection, wire)
    try:
        await _read(socket, caller, connection)
    except (WebSocketDisconnect, RuntimeError, OSError):
        pass  # whoever has gone is not told
    except asyncio.CancelledError:
        if not mouth.gave_up:
            raise
    finally:
        hub.leave(connection)
        await mouth.rest()


class _Mouth:
    """Says what waits: at once where it can, else by a task, and most sockets are silent."""

    __slots__ = ("_connection", "_ear", "_saying", "_socket", "_wire", "gave_up")

    def __init__(self, socket: WebSocket, connection: Connection, wire: Wire | None) -> None:
        self._socket = socket
        self._wire = wire
        self._connection = connection
        self._ear = asyncio.current_task()
        self._saying: asyncio.Task[None] | None = None
        self.gave_up = False
        connection.attend(self._speak)

    def _speak(self) -> None:
        if self._saying is None and not self._has_said():
            self._saying = asyncio.get_running_loop().create_task(self._say())

    def _has_said(self) -> bool:
        """Say what waits at once, where nothing is in the way; tell whether that was all."""
        if self._wire is None or self._connection.is_over:
            return False
        frames = self._connection.frames
        for at, frame in enumerate(frames):
            if not self._wire.push(frame.wire):
                del frames[:at]
                return False
        frames.clear()
        return True

    async def _say(self) -> None:
        """Say all; whoever takes nothing for `PATIENCE_SECONDS` is given up."""
        try:
            while self._connection.frames or self._connection.is_over:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    if await self._say_some():
                        return  # behind the end there is nothing to say
        except TimeoutError:
            self.gave_up = True
            if self._ear:
                self._ear.cancel()
            return
        except (WebSocketDisconnect, RuntimeError, OSError):
            return  # the reader hears of it too
        self._saying = None

    async def _say_some(self) -> bool:
        for frame in self._connection.take():
            await self._socket.send_text(frame.text)
        if self._connection.is_over and not self._connection.frames:
            await self._socket.close(self._connection.code, self._connection.reason)
            return True
        return False

    async def rest(self) -> None:
        """Let last words be said, and be called no more."""
        self._connection.leave()
        saying = self._saying
        if saying is not None:
            with suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(asyncio.shield(saying), PATIENCE_SECONDS)
            saying.cancel()


class _Allowance:
    """What one socket may still say: it fills up with time, and each frame takes one."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = float(FRAMES_A_MINUTE)
        self._at = monotonic()

    def spend(self) -> None:
        """Take one. Raises: RATE_LIMIT_EXCEEDED 429."""
        now = monotonic()
        filled = self._left + (now - self._at) * FRAMES_A_MINUTE / 60
        self._left, self._at = min(float(FRAMES_A_MINUTE), filled) - 1, now
        if self._left < 0:
            raise RateLimitExceeded(1)


# Refusals that end the socket, and what it is closed with.
_LAST_WORDS: Mapping[type[Problem], int] = MappingProxyType(
    {Unauthenticated: POLICY_VIOLATION, RateLimitExceeded: TRY_AGAIN_LATER}
)
_FRAMES: "msgspec.json.Decoder[Asked]" = msgspec.json.Decoder(Asked)


async def _read(socket: WebSocket, caller: Caller, connection: Connection) -> None:
    allowance = _Allowance()
    while not connection.is_over:
        try:
            text = await socket.receive_text()
        except KeyError:  # a binary frame
            connection.finish(POLICY_VIOLATION, RequestInvalid.code)
            return
        topic = ""
        try:
            allowance.spend()
            frame = _FRAMES.decode(text)
            topic = frame.topic
            await _obey(socket, caller, connection, frame)
        except (msgspec.DecodeError, ValueError):
            connection.send(refusal(topic, RequestInvalid()))
        except Problem as problem:
            connection.send(refusal(topic, problem))
            if (code := _LAST_WORDS.get(type(problem))) is not None:
                connection.finish(code, problem.code)
        except Exception:
            log.exception("a frame could not be served")
            connection.finish(INTERNAL_ERROR, Problem.code)


async def _obey(socket: WebSocket, caller: Caller, connection: Connection, frame: Asked) -> None:
    entrance = entrance_of(socket)
    topics: Mapping[str, Topic] = socket.app.state.topics
    name, _, of = frame.topic.partition(":")
    topic = topics.get(name)
    if topic is None or frame.clinic_id is None:
        raise NotFound
    of_id, clinic_id = UUID(of), ClinicId(frame.clinic_id)
    action, request_id = f"SUBSCRIBE {name}", exchange_of(socket).request_id
    reader = Reader(entrance, topic, topic.guard, caller, clinic_id, of_id, action, request_id)
    if isinstance(frame, Unsubscribe):
        entrance.hub.unsubscribe(connection, reader.name)
        return
    is_new = reader.name not in connection.subscriptions
    if is_new and len(connection.subscriptions) >= MOST_TOPICS:
        raise RateLimitExceeded(60)
    await entrance.hub.subscribe(connection, reader.name, reader.load, frame.since, frame.epoch)

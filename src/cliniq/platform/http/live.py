"""The live socket: a one-use pass, then topics to watch. Rooms declare the topics."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from secrets import token_urlsafe
from time import monotonic
from types import MappingProxyType
from typing import Annotated, Literal
from uuid import UUID

import msgspec
import structlog
from fastapi import APIRouter, Depends
from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect
from typing_extensions import override

from cliniq.kernel.ids import ClinicId, PersonId, SessionId
from cliniq.kernel.problem import (
    NotFound,
    Problem,
    RateLimitExceeded,
    RequestInvalid,
    Unauthenticated,
)
from cliniq.kernel.record import Record
from cliniq.kernel.scope import Caller, PlatformScope, SelfScope
from cliniq.platform import live_store
from cliniq.platform.db import ReadUnit, open_read_unit, open_unit
from cliniq.platform.http.exchange import exchange_of
from cliniq.platform.http.guards import (
    Entrance,
    Guard,
    Policy,
    entrance_of,
    own_everywhere,
    signed_in,
)
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import GuardedRoute
from cliniq.platform.http.terms import terms
from cliniq.platform.http.traffic import Traffic
from cliniq.platform.live import TRY_AGAIN_LATER, Connection, Snapshot, refusal, topic_in

log = structlog.get_logger(__name__)

PASS_LIFE = timedelta(seconds=30)
PASSES = "60/minute"
MOST_TOPICS = 32  # a family's queues and then some
FRAMES_A_MINUTE = 120
PATIENCE_SECONDS = 10
POLICY_VIOLATION, INTERNAL_ERROR = 1008, 1011

router = APIRouter(tags=["live"], route_class=GuardedRoute)


@dataclass(frozen=True, slots=True)
class Topic:
    """A kind of topic, `name:<id>`: who may watch it, and how its snapshot is read."""

    name: str
    guard: Guard[ReadUnit]
    load: Callable[[ReadUnit, UUID], Awaitable[Snapshot]]


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
        offered = connection.query_params.get("pass", "")
        if not _same_origin(connection) or not 16 <= len(offered) <= 64:  # noqa: PLR2004
            raise WebSocketException(POLICY_VIOLATION)
        async with open_unit(entrance.database, PlatformScope("redeem a live pass")) as unit:
            holder = await live_store.redeem_pass(unit, _hash(offered), unit.wall)
        if holder is None:
            raise WebSocketException(POLICY_VIOLATION)
        caller = Caller(PersonId(holder.person_id), SessionId(holder.session_id))
        await _ensure_signed_in(entrance, caller)
        return caller


async def _ensure_signed_in(entrance: Entrance, caller: Caller) -> None:
    """Refuse a pass whose sign-in has ended since it was bought."""
    seat = entrance.directory.seat_of_self(caller, None, strict=False)
    try:
        async with open_read_unit(entrance.database, SelfScope(caller.person_id), seat):
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


def _hash(live_pass: str) -> bytes:
    return sha256(live_pass.encode()).digest()


@router.post(
    "/live/passes",
    status_code=201,
    responses=problems(RateLimitExceeded),
    **terms(no_key="it hands out a secret, and a new one is as good", traffic=Traffic.LIVE),
)
async def create_live_pass(
    unit: Annotated[ReadUnit, own_everywhere()], connection: HTTPConnection
) -> PassOut:
    """Buy a ticket to the live socket: one use, 30 s, ends with the sign-in.

    Raises: RATE_LIMIT_EXCEEDED 429.
    """
    entrance = entrance_of(connection)
    caller = signed_in(connection)
    await entrance.limits.hit(PASSES, "live-pass", str(caller.person_id))
    live_pass = token_urlsafe(24)
    async with open_unit(entrance.database, PlatformScope("sell a live pass")) as platform:
        await live_store.add_pass(
            platform, _hash(live_pass), caller.person_id, caller.session_id, unit.wall + PASS_LIFE
        )
    return PassOut(live_pass, int(PASS_LIFE.total_seconds()))


class _Frame(msgspec.Struct, forbid_unknown_fields=True):
    """What a client may say."""

    op: Literal["subscribe", "unsubscribe"]
    topic: Annotated[str, msgspec.Meta(max_length=100)]
    clinic_id: UUID | None = None


@router.websocket("/live")
async def watch(socket: WebSocket, caller: Annotated[Caller, Depends(LivePass())]) -> None:
    """Serve one socket until either side has had enough."""
    await socket.accept()
    entrance = entrance_of(socket)
    connection = Connection(caller.session_id, caller.person_id)
    try:
        entrance.hub.join(connection)
    except RateLimitExceeded:
        await socket.close(TRY_AGAIN_LATER)
        return
    writer = asyncio.create_task(_write(socket, connection))
    reader = asyncio.create_task(_read(socket, caller, connection))
    try:
        await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        entrance.hub.leave(connection)
        for task in (writer, reader):
            task.cancel()
            with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError, TimeoutError):
                await task


async def _write(socket: WebSocket, connection: Connection) -> None:
    """Send what waits; a socket that takes nothing for `PATIENCE_SECONDS` is given up."""
    while (frame := await connection.frames.get()) is not None:
        await asyncio.wait_for(socket.send_text(frame.decode()), PATIENCE_SECONDS)
    await asyncio.wait_for(socket.close(connection.code), PATIENCE_SECONDS)


class _Allowance:
    """What one socket may still say: it fills up with time, and each frame takes one."""

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


async def _read(socket: WebSocket, caller: Caller, connection: Connection) -> None:
    allowance = _Allowance()
    while True:
        try:
            text = await socket.receive_text()
        except KeyError:  # a binary frame
            await socket.close(POLICY_VIOLATION)
            return
        topic = ""
        try:
            allowance.spend()
            frame = msgspec.json.decode(text, type=_Frame)
            topic = frame.topic
            await _obey(socket, caller, connection, frame)
        except (msgspec.DecodeError, ValueError):
            connection.send(refusal(topic, RequestInvalid()))
        except Problem as problem:
            connection.send(refusal(topic, problem))
            if (code := _LAST_WORDS.get(type(problem))) is not None:
                await _farewell(connection, code)
                return
        except Exception:
            log.exception("a frame could not be served")
            await _farewell(connection, INTERNAL_ERROR)
            return


# Refusals that end the socket, and what it is closed with.
_LAST_WORDS: Mapping[type[Problem], int] = MappingProxyType(
    {Unauthenticated: POLICY_VIOLATION, RateLimitExceeded: TRY_AGAIN_LATER}
)


async def _farewell(connection: Connection, code: int) -> None:
    """Have the socket closed after what it has still to hear, and wait for that."""
    connection.finish(code)
    await asyncio.sleep(PATIENCE_SECONDS)


async def _obey(socket: WebSocket, caller: Caller, connection: Connection, frame: _Frame) -> None:
    entrance = entrance_of(socket)
    topics: Mapping[str, Topic] = socket.app.state.topics
    name, _, of = frame.topic.partition(":")
    topic = topics.get(name)
    if topic is None or frame.clinic_id is None:
        raise NotFound
    of_id, clinic_id = UUID(of), ClinicId(frame.clinic_id)
    canonical = topic_in(clinic_id, f"{name}:{of_id}")
    if frame.op == "unsubscribe":
        entrance.hub.unsubscribe(connection, canonical)
        return
    is_new = canonical not in connection.subscriptions
    if is_new and len(connection.subscriptions) >= MOST_TOPICS:
        raise RateLimitExceeded(60)
    request_id = exchange_of(socket).request_id

    async def load() -> Snapshot:
        return await _load(entrance, topic, caller, clinic_id, of_id, request_id)

    await entrance.hub.subscribe(connection, canonical, load)


async def _load(
    entrance: Entrance,
    topic: Topic,
    caller: Caller,
    clinic_id: ClinicId,
    of_id: UUID,
    request_id: str,
) -> Snapshot:
    """Read a snapshot through the topic's own door: whoever lost the right is refused here."""
    door = topic.guard.door(entrance, caller, clinic_id, f"SUBSCRIBE {topic.name}", request_id)
    try:
        async with door as unit:
            return await topic.load(unit, of_id)
    except Problem as problem:
        await door.remember(problem)
        raise


def watch_topics(
    name: str, guard: Guard[ReadUnit]
) -> Callable[[Callable[[ReadUnit, UUID], Awaitable[Snapshot]]], Topic]:
    """Declare a kind of topic: the function below reads its snapshot."""
    return lambda load: Topic(name, guard, load)

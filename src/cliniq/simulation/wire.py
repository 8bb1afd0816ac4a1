"""How players reach the server: requests that are repeated until answered, and live boards."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic, perf_counter
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx2
import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from cliniq.domains.identity import api as identity
from cliniq.domains.queue import api as queue
from cliniq.kernel.ids import ClinicId
from cliniq.kernel.record import Record
from cliniq.simulation.models import Actor

API = "/api/v1"
PATIENCE_SECONDS = 60  # for a server that is started anew
TRY_SECONDS = 10
FRESH_SECONDS = 600  # of a token: it lives for fifteen minutes
BOARD_SECONDS = 10
LOST = (OSError, TimeoutError, EOFError, WebSocketException, httpx2.HTTPError)
AWAY = frozenset({502, 503, 504})


class ServerGone(Exception):
    """The server has not answered for a minute."""


class Answer(Record, frozen=True):
    """What came back. `code`: the refusal, or `OK`."""

    status: int
    code: str
    body: Any


class Wire:
    """Asks in the name of actors, until there is an answer; with one key however often it asks."""

    def __init__(self, address: str, desk: identity.SignInDesk, most: int) -> None:
        self.address, self._desk = address, desk
        limits = httpx2.Limits(max_connections=most, max_keepalive_connections=most)
        self._client = httpx2.AsyncClient(
            base_url=address, trust_env=False, timeout=TRY_SECONDS, limits=limits
        )
        self._tokens: dict[UUID, tuple[float, str]] = {}
        self.waits: list[float] = []
        self.repeated = 0

    async def close(self) -> None:
        """Let go of all connections."""
        await self._client.aclose()

    def headers(self, actor: Actor, clinic_id: ClinicId) -> dict[str, str]:
        """Say who asks, and where."""
        now = monotonic()
        made, token = self._tokens.get(actor.person_id, (-FRESH_SECONDS, ""))
        if now - made >= FRESH_SECONDS:
            token = identity.issue_token(
                self._desk, actor.person_id, actor.session_id, is_staff=actor.is_staff
            )
            self._tokens[actor.person_id] = now, token
        return {"Authorization": f"Bearer {token}", "X-Clinic-Id": str(clinic_id)}

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: object = None,
    ) -> Answer:
        """Ask until there is an answer. Raises: ServerGone."""
        until = monotonic() + PATIENCE_SECONDS
        while True:
            began = perf_counter()
            with suppress(httpx2.TransportError):
                said = await self._client.request(
                    method, f"{API}{path}", headers=dict(headers), json=body
                )
                if said.status_code not in AWAY:
                    self.waits.append(perf_counter() - began)
                    found = said.json() if said.content else None
                    code = "OK" if said.is_success else (found or {}).get("code", "NO_CODE")
                    return Answer(said.status_code, code, found)
            if monotonic() > until:
                raise ServerGone(f"{method} {path} is not answered")
            self.repeated += 1
            await asyncio.sleep(0.2)


class Boards:
    """The boards of a site: every queue of it, kept by what is told over one socket."""

    def __init__(self, wire: Wire, actor: Actor, clinic_id: ClinicId) -> None:
        self._wire, self._actor, self._clinic_id = wire, actor, clinic_id
        self._known: dict[UUID, tuple[int, str, queue.Board]] = {}
        self._wanted: set[UUID] = set()
        self._socket: Any = None
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.counts: Counter[str] = Counter()

    async def follow(self, queue_id: UUID) -> None:
        """Show one more queue."""
        self._wanted.add(queue_id)
        if self._task is None:
            self._task = asyncio.create_task(self._stay())
        elif self._socket is not None:
            with suppress(*LOST):
                await self._subscribe(queue_id)

    async def close(self) -> None:
        """Show nothing any longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def at(self, queue_id: UUID, version: int) -> queue.Board | None:
        """Say what a board shows once it is so far; nothing where it does not come to that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BOARD_SECONDS):
                while True:
                    known = self._known.get(queue_id)
                    if known is not None and known[0] >= version:
                        return known[2]
                    self._news.clear()
                    await self._news.wait()
        return None

    async def _stay(self) -> None:
        while True:
            with suppress(*LOST):
                await self._watch()
            self._socket = None
            self.counts["connections"] += 1
            await asyncio.sleep(0.2)

    async def _watch(self) -> None:
        headers = self._wire.headers(self._actor, self._clinic_id)
        sold = await self._wire.ask("POST", "/live/passes", headers)
        place = urlsplit(self._wire.address)
        scheme = "wss" if place.scheme == "https" else "ws"
        where = f"{scheme}://{place.netloc}{API}/live?pass={sold.body['live_pass']}"
        async with connect(where, compression=None, proxy=None, max_size=None) as self._socket:
            for queue_id in self._wanted:
                await self._subscribe(queue_id)
            async for text in self._socket:
                self._hear(json.loads(text))

    async def _subscribe(self, queue_id: UUID) -> None:
        known = self._known.get(queue_id)
        since = {} if known is None else {"since": known[0], "epoch": known[1]}
        topic = {"topic": f"queue:{queue_id}", "clinic_id": str(self._clinic_id)}
        await self._socket.send(json.dumps({"op": "subscribe", **topic, **since}))

    def _hear(self, said: Mapping[str, Any]) -> None:
        self.counts[said["type"]] += 1
        queue_id = UUID(said["topic"].partition(":")[2]) if "topic" in said else UUID(int=0)
        match said["type"]:
            case "snapshot":
                board = msgspec.convert(said["state"], queue.Board)
                self._known[queue_id] = said["version"], said["epoch"], board
            case "event":
                version, epoch, board = self._known[queue_id]
                if said["version"] == version + 1:
                    board = changed(board, said["kind"], said["body"])
                    self._known[queue_id] = version + 1, epoch, board
                elif said["version"] > version + 1:
                    self.counts["missed"] += 1
        self._news.set()


def changed(board: queue.Board, kind: str, body: Mapping[str, Any]) -> queue.Board:
    """Say what a board shows after an event, by the rules of the live contract."""
    ticket = body["ticket"]
    waiting = [each for each in board.waiting if each != ticket]
    called = [each for each in board.called if each.ticket != ticket]
    begun = [each for each in board.in_progress if each != ticket]
    match kind:
        case "queue.entry_joined.v1":
            waiting.insert(body["position"] - 1, ticket)
        case "queue.entry_called.v1":
            called.append(queue.CalledTicket(ticket, body["room"]))
            called.sort(key=lambda each: each.ticket)
        case "queue.entry_started.v1":
            begun = sorted([*begun, ticket])
    head = (board.queue_id, board.on_day, board.line_name)
    return queue.Board(*head, waiting, called, begun)

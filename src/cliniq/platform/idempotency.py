"""Idempotency keys: whoever asks again with the same key gets the same answer, and it happens once.

A key belongs to a person, in a clinic, on a route. Its answer is kept in the transaction of the
deed, so that both are true or neither; a refusal is not kept, and may be tried again.
Source: the IETF draft "The Idempotency-Key HTTP Header Field"; decision 0015.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from hashlib import sha256

from typing_extensions import override

from cliniq.kernel.problem import Conflict, Problem, RequestInvalid
from cliniq.kernel.record import Record
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import idempotency_store
from cliniq.platform.db import Database, Unit, open_unit

HEADER = "Idempotency-Key"
LONGEST_KEY = 255
LIFE = timedelta(hours=24)  # of an answer
MEMORY = timedelta(days=8)  # of its key: so long it is refused, rather than taken for a new one
BATCH = 5000


class KeyMissing(Problem):
    """The request would hurt if it were repeated, and has no `Idempotency-Key` to prevent it."""

    status = 400
    code = "IDEMPOTENCY_KEY_MISSING"
    title = "Send an Idempotency-Key with this request"


class KeyReused(Problem):
    """The key was sent before with another request; every new request needs a key of its own."""

    status = 422
    code = "IDEMPOTENCY_KEY_REUSED"
    title = "This Idempotency-Key belongs to another request"


class KeyInFlight(Conflict):
    """A request with the same key is being worked on; ask again for its answer."""

    code = "IDEMPOTENCY_KEY_IN_FLIGHT"
    title = "The first request with this Idempotency-Key is still under way"

    @property
    @override
    def headers(self) -> Mapping[str, str]:
        """Ask clients to come back in a second."""
        return {"Retry-After": "1"}


class KeyExpired(Conflict):
    """The request was done more than a day ago, and its answer is no longer kept."""

    code = "IDEMPOTENCY_KEY_EXPIRED"
    title = "The answer to this Idempotency-Key is no longer kept"


class Answer(Record, frozen=True):
    """An answer as it goes over the wire."""

    status: int
    media_type: str | None
    body: bytes


class Asked(Record, frozen=True):
    """A request with a key. `fingerprint` tells it from every other request."""

    route: str
    key: str
    fingerprint: bytes


def read_key(given: list[str]) -> str:
    """Read the header's values.

    Bounds: one, of 1 to 255 printable ASCII characters.
    Raises: REQUEST_INVALID 422.
    """
    key = given[0]
    if len(given) != 1 or not 0 < len(key) <= LONGEST_KEY or not _is_printable(key):
        raise RequestInvalid(errors=["header.idempotency-key: malformed"])
    return key


def _is_printable(key: str) -> bool:
    return key.isascii() and key.isprintable()


def fingerprint(method: str, route: str, path: str, query: bytes, body: object) -> bytes:
    """Tell a request from every other; JSON that means the same is the same. Shape: 32 bytes."""
    said = body if isinstance(body, bytes) else json.dumps(body, sort_keys=True).encode()
    where = json.dumps([method, route, path, query.decode("latin-1")])
    return sha256(where.encode() + b"\n" + said).digest()


async def recall(unit: Unit, asked: Asked) -> Answer | None:
    """Give the answer that is kept; nothing where the deed is yet to be done, by this unit.

    Locks: the key, until COMMIT; a rival is refused rather than kept waiting.
    Raises: IDEMPOTENCY_KEY_REUSED 422, IDEMPOTENCY_KEY_IN_FLIGHT 409, IDEMPOTENCY_KEY_EXPIRED 409.
    """
    known = await idempotency_store.claim_key(unit, asked.route, asked.key)
    if known.is_free:
        return None
    if known.stored_at is None or known.status is None:
        raise KeyInFlight
    if known.answer is None or known.stored_at + LIFE <= unit.wall:
        raise KeyExpired
    if known.fingerprint != asked.fingerprint:
        raise KeyReused
    return Answer(known.status, known.media_type, known.answer)


def keep(unit: Unit, asked: Asked, answer: Answer) -> None:
    """Keep an answer, as the last thing before COMMIT."""
    unit.before_commit(_write, (asked, answer))


async def _write(unit: Unit, kept: list[tuple[Asked, Answer]]) -> None:
    for asked, answer in kept:
        await idempotency_store.add_answer(
            unit,
            asked.route,
            asked.key,
            asked.fingerprint,
            answer.status,
            answer.media_type,
            answer.body,
            unit.wall,
        )


async def drop_stale_keys(database: Database) -> None:
    """Empty answers after a day and forget their keys a week later.

    Idempotent. In small transactions, since there may be millions.
    """
    while True:
        async with open_unit(database, PlatformScope("drop stale keys")) as unit:
            dropped = await idempotency_store.drop_stale_keys(
                unit, unit.wall - LIFE, unit.wall - MEMORY, BATCH
            )
        if not dropped:
            return

"""Messages to people are asked for here, as rows of the transaction that makes them true.

Whoever asks knows what is to be said and to whom, not how it gets there. Until something delivers
them they lie in an outbox that an operator reads with `cliniq outbox show`: sealed, since a code or
a link in a database dump would be as good as a password.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from cliniq.kernel.ids import new_id
from cliniq.kernel.record import Record
from cliniq.platform import messages_store
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sealing import Sealer

PURPOSE = "message"
KEPT = timedelta(days=7)


class Channel(StrEnum):
    """By which way a message goes."""

    EMAIL = "email"
    SMS = "sms"


class Message(Record, frozen=True):
    """What is to be said to whom. `facts` fill the template of `kind` in `language` (BCP 47)."""

    kind: str
    channel: Channel
    to: str
    language: str
    facts: dict[str, str]


class Lying(Record, frozen=True):
    """A message that lies in the outbox."""

    message_id: UUID
    requested_at: datetime
    message: Message


def post(unit: Unit, message: Message) -> None:
    """Ask for a message: it is sent if and only if `unit` commits.

    Raises: TypeError where the process has nothing to seal it with.
    """
    if unit.database.beside.sealer is None:
        raise TypeError("this process has no sealer, so it cannot ask for messages")
    unit.before_commit(_write, message)


async def _write(unit: Unit, messages: list[Message]) -> None:
    sealer = unit.database.beside.sealer
    assert sealer is not None  # noqa: S101 - `post` has seen to it
    ids = [new_id() for _ in messages]
    await messages_store.add(
        unit,
        ids,
        [each.kind for each in messages],
        [
            sealer.seal(PURPOSE, msgspec.json.encode(each), message_id.bytes)
            for message_id, each in zip(ids, messages, strict=True)
        ],
        unit.wall,
    )


async def list_lying(unit: ReadUnit, sealer: Sealer, most: int) -> list[Lying]:
    """List the messages that lie in the outbox, the newest first; what we cannot open is left out.

    A message that was sealed under another master secret cannot be opened.
    """
    found = []
    for row in await messages_store.list_newest(unit, most):
        opened = sealer.open(PURPOSE, row.sealed, row.message_id.bytes)
        if opened is not None:
            message = msgspec.json.decode(opened, type=Message)
            found.append(Lying(row.message_id, row.requested_at, message))
    return found


async def drop_old(unit: Unit) -> None:
    """Forget what has lain for `KEPT`."""
    await messages_store.drop_before(unit, unit.wall - KEPT)

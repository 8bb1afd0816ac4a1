"""Messages are asked for in the transaction that makes them true, and lie there sealed."""

from datetime import timedelta

import pytest

from cliniq.app import House
from cliniq.kernel.scope import PlatformScope
from cliniq.platform.db import open_read_unit, open_unit
from cliniq.platform.messages import KEPT, Channel, Message, drop_old, list_lying, post
from cliniq.platform.sealing import Sealer
from cliniq.platform.signing import Keyring
from tests.support import Admin, Hands, SomeClinic

SCOPE = PlatformScope("test")
SECRET_WORD = "zq-482913"  # noqa: S105 - what must not be seen


def some_message(to: str) -> Message:
    return Message("identity.sign_in_code", Channel.EMAIL, to, "en", {"code": SECRET_WORD})


async def lying(house: House, to: str, sealer: Sealer | None = None) -> list[Message]:
    sealer = sealer or Sealer(house.entrance.keyring)
    async with open_read_unit(house.entrance.database, SCOPE) as unit:
        found = await list_lying(unit, sealer, 10_000)
    return [each.message for each in found if each.message.to == to]


async def test_message_lies_there_once_its_unit_committed_and_only_then(
    house: House, hands: Hands
) -> None:
    to = "committed@example.org"
    with pytest.raises(LookupError):
        async with open_unit(house.entrance.database, SCOPE) as unit:
            post(unit, some_message(to))
            raise LookupError
    assert await lying(house, to) == []
    async with open_unit(house.entrance.database, SCOPE) as unit:
        post(unit, some_message(to))
    assert await lying(house, to) == [some_message(to)]


async def test_staff_ask_for_messages_and_cannot_read_them(
    clinic: SomeClinic, house: House
) -> None:
    to = "by-staff@example.org"
    async with clinic.unit() as unit:
        post(unit, some_message(to))
    assert await lying(house, to) == [some_message(to)]


async def test_dump_of_the_outbox_tells_neither_address_nor_code(
    house: House, admin: Admin, hands: Hands
) -> None:
    to = "dumped@example.org"
    async with open_unit(house.entrance.database, SCOPE) as unit:
        post(unit, some_message(to))
    rows = await admin.fetch("select kind, sealed from outgoing_message")
    assert rows
    for row in rows:
        assert SECRET_WORD.encode() not in row["sealed"]
        assert to.encode() not in row["sealed"]
    stranger = Sealer(Keyring("another secret, which is long enough to be one"))
    assert await lying(house, to, stranger) == []


async def test_old_messages_are_forgotten(house: House, admin: Admin, hands: Hands) -> None:
    to = "old@example.org"
    async with open_unit(house.entrance.database, SCOPE) as unit:
        post(unit, some_message(to))
    hands.wall += KEPT
    async with open_unit(house.entrance.database, SCOPE) as unit:
        await drop_old(unit)
    assert await lying(house, to) == [some_message(to)]
    hands.wall += timedelta(seconds=1)
    async with open_unit(house.entrance.database, SCOPE) as unit:
        await drop_old(unit)
    assert await lying(house, to) == []

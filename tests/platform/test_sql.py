"""Statements: what goes in, what comes out, and in which shape."""

from datetime import date
from enum import StrEnum
from uuid import UUID

import asyncpg
import pytest

from cliniq.kernel.ids import new_id
from cliniq.kernel.record import Record
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql
from tests.support import SomeClinic


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Thing(Record, frozen=True):
    """A row."""

    name: str
    colour: Colour
    spare: Colour | None
    born_on: date | None


class Plain(Record, frozen=True):
    """A row without words."""

    name: str
    size: int


class Single(Record, frozen=True):
    """A row of one column."""

    name: str


THINGS = """
    select * from (values ('a', 'red', 'blue', date '2024-02-29'), ('b', 'blue', null, null))
    as thing (name, colour, spare, born_on)
"""


@sql(THINGS)
async def list_things(unit: ReadUnit) -> list[Thing]:
    """List things."""
    raise NotImplementedError


@sql(f"select * from ({THINGS}) as each where name = $1")  # noqa: S608
async def find_thing(unit: ReadUnit, name: str) -> Thing | None:
    """Find a thing."""
    raise NotImplementedError


@sql(f"select * from ({THINGS}) as each where name = $1")  # noqa: S608
async def get_thing(unit: ReadUnit, name: str) -> Thing:
    """Get a thing that is there."""
    raise NotImplementedError


@sql("select $1::text || $2::text || $3::bigint || $4::text")
async def describe(unit: ReadUnit, before: str, thing: Plain, after: str) -> str:
    """Spread a record among the parameters."""
    raise NotImplementedError


@sql("select $1::text")
async def name_of(unit: ReadUnit, single: Single) -> Single:
    """Spread a record of one field."""
    raise NotImplementedError


@sql("select $1::text")
async def colour_of(unit: ReadUnit, text: str) -> Colour:
    """Read a word."""
    raise NotImplementedError


@sql("select unnest($1::uuid[])")
async def list_ids(unit: ReadUnit, ids: list[UUID]) -> list[UUID]:
    """List values of one column."""
    raise NotImplementedError


@sql("select $1::text where $1 <> ''")
async def find_colour(unit: ReadUnit, text: str) -> Colour | None:
    """Find a word or nothing."""
    raise NotImplementedError


@sql("select $1::text, $2::bigint")
async def plain(unit: ReadUnit, name: str, size: int) -> Plain:
    """Read a row without words."""
    raise NotImplementedError


@sql("update site set name = $1")
async def rename(unit: Unit, name: str) -> None:
    """Change something without an answer."""


A = Thing("a", Colour.RED, Colour.BLUE, date(2024, 2, 29))
B = Thing("b", Colour.BLUE, None, None)


async def test_return_type_decides_the_answer(clinic: SomeClinic) -> None:
    async with clinic.unit() as unit:
        assert await list_things(unit) == [A, B]
        assert await find_thing(unit, "a") == A
        assert await find_thing(unit, "c") is None
        assert await get_thing(unit, "b") == B
        assert await plain(unit, "x", 2**40) == Plain("x", 2**40)
        ids = [new_id(), new_id()]
        assert await list_ids(unit, ids) == ids
        assert await list_ids(unit, []) == []


async def test_words_of_a_closed_list_come_back_as_words_and_no_others(clinic: SomeClinic) -> None:
    async with clinic.unit() as unit:
        for unknown in ("green", "RED"):
            with pytest.raises(KeyError):
                await colour_of(unit, unknown)
            with pytest.raises(KeyError):
                await find_colour(unit, unknown)
        assert await colour_of(unit, "red") is Colour.RED
        assert await find_colour(unit, "blue") is Colour.BLUE
        assert await find_colour(unit, "") is None
        (thing, other) = await list_things(unit)
    assert thing.colour is Colour.RED
    assert other.spare is None


async def test_row_that_must_be_there_and_is_not_is_an_error(clinic: SomeClinic) -> None:
    async with clinic.unit() as unit:
        with pytest.raises(IndexError):
            await get_thing(unit, "c")


async def test_record_among_the_parameters_stands_for_its_fields(clinic: SomeClinic) -> None:
    async with clinic.unit() as unit:
        assert await describe(unit, "<", Plain("n", 1), ">") == "<n1>"
        assert await describe(unit, after=">", thing=Plain("n", 1), before="<") == "<n1>"
        assert await describe(unit, "<", after=">", thing=Plain("n", 1)) == "<n1>"
        assert await name_of(unit, Single("one")) == Single("one")


async def test_wrong_arguments_are_an_error_and_never_shift(clinic: SomeClinic) -> None:
    async with clinic.unit() as unit:
        with pytest.raises((KeyError, TypeError)):
            await plain(unit, "x")  # type: ignore[call-arg]
        with pytest.raises((KeyError, TypeError)):
            await plain(unit, size=1)  # type: ignore[call-arg]
        with pytest.raises((TypeError, asyncpg.InterfaceError)):
            await plain(unit, "x", 1, 2)  # type: ignore[call-arg]
        with pytest.raises((TypeError, asyncpg.InterfaceError)):
            await plain(unit, "x", 1, sise=2)  # type: ignore[call-arg]
        with pytest.raises(asyncpg.DataError):
            await plain(unit, "x", "1")  # type: ignore[arg-type]


async def test_values_are_never_read_as_sql(clinic: SomeClinic) -> None:
    evil = "'); drop table site; --"
    async with clinic.unit() as unit:
        assert await plain(unit, evil, 1) == Plain(evil, 1)
        answer = await rename(unit, evil)  # type: ignore[func-returns-value]
        assert answer is None
        assert await unit.connection.fetchval("select name from site") == evil


def test_statement_says_what_it_is_for_the_test_that_compiles_them_all() -> None:
    assert describe.parameters == [str, str, int, str]
    assert describe.returns is str
    assert describe.unit is ReadUnit
    assert describe.__doc__ == "Spread a record among the parameters."
    assert describe.name.endswith(".describe")
    assert rename.unit is Unit
    assert list_things.returns == list[Thing]

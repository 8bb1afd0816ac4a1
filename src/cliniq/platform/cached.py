"""What a room has the cache keep: declared beside its store, read and changed within a unit."""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar
from uuid import UUID

from cliniq.kernel.ids import ClinicId
from cliniq.platform.cache import NOBODY, Cache, Codec, Key, key_of
from cliniq.platform.db import ReadUnit, Unit

T = TypeVar("T")


class Cached(Generic[T]):
    """A kind of value that everybody seated in a clinic may see alike.

    `load` reads it in a caller's own unit, so the walls stand; a person's own rows are never of
    such a kind. What is given out is shared: nobody changes it.
    """

    __slots__ = ("_load", "codec", "name")

    def __init__(self, name: str, kind: Any, load: Callable[..., Awaitable[T]]) -> None:
        self.name, self._load, self.codec = name, load, Codec[T](kind)

    async def load(self, unit: ReadUnit, subject: UUID) -> T:
        """Ask the database."""
        return await (self._load(unit) if subject is NOBODY else self._load(unit, subject))


async def cached(unit: ReadUnit, kind: Cached[T], subject: UUID = NOBODY) -> T:
    """Read a kind of value in the unit's clinic, about a subject where it has one.

    It may be newer than the unit's snapshot. A unit that has changed it sees its own change; one
    over several clinics, or none, asks the database.
    """
    cache, clinic_id = unit.database.beside.cache, getattr(unit.scope, "clinic_id", None)
    if cache is None or clinic_id is None:
        return await kind.load(unit, subject)
    key = key_of(kind.name, clinic_id, subject)
    if unit.changed and key in unit.changed:
        return await kind.load(unit, subject)
    entry = cache.kept(key)  # most often; spares what follows
    if entry is not None:
        value: T = entry.value
        return value
    return await cache.get(key, kind.codec, unit.began, lambda: kind.load(unit, subject))


def changed(unit: Unit, kind: Cached[Any], subject: UUID = NOBODY) -> None:
    """Say that this unit changes a value: once it has committed, all forget what they keep."""
    cache = unit.database.beside.cache
    if cache is None:
        return
    key = key_of(kind.name, unit.clinic_id, subject)
    unit.changed.add(key)
    unit.before_commit(_bar, key)


async def _bar(unit: Unit, keys: list[Key]) -> None:
    cache = unit.database.beside.cache
    assert cache is not None  # noqa: S101 - or nothing would have been announced
    mark = await cache.bar(keys)
    unit.after_commit(lambda: cache.forget(keys, mark))


def forget(cache: Cache, kind: Cached[Any], clinic_id: ClinicId, subject: UUID = NOBODY) -> None:
    """Have a value forgotten that was changed elsewhere: for whoever hears so by an event."""
    cache.forget([key_of(kind.name, clinic_id, subject)])

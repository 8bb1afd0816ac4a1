"""Hand-written SQL with the type of a function. Only stores may use it."""

from collections.abc import Callable, Coroutine
from enum import StrEnum
from time import perf_counter
from types import NoneType
from typing import (
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import asyncpg
from msgspec.structs import astuple

from cliniq.kernel.record import Record
from cliniq.platform.db import ReadUnit

P = ParamSpec("P")
R = TypeVar("R")
U = TypeVar("U", bound=ReadUnit)


class Statement(Generic[U, P, R]):
    """One SQL statement with the type of a function. Made by `sql`."""

    def __init__(self, text: str, function: Callable[..., object]) -> None:
        self.text = text
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.__doc__ = function.__doc__
        takes = get_type_hints(function)
        self.returns = takes.pop("return")
        first, *self._names = takes
        self.unit = takes[first]
        self.parameters = [kind for name in self._names for kind in columns(takes[name])]
        self._spreads = any(is_record(takes[name]) for name in self._names)
        self._read = _reader(self.returns)

    async def __call__(self, unit: U, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the statement in the unit's transaction."""
        if len(args) + len(kwargs) != len(self._names):
            raise TypeError(f"{self.name} takes {', '.join(self._names)}")
        values: list[Any] = [*args, *(kwargs[name] for name in self._names[len(args) :])]
        if self._spreads:
            values = [each for value in values for each in _spread(value)]
        rows = None
        began = perf_counter()
        try:
            rows = await unit.connection.fetch(self.text, *values)
        finally:
            slow, seconds = unit.database.beside.slow, perf_counter() - began
            if seconds >= slow.seconds:
                count = None if rows is None else len(rows)
                slow.note(self.name, seconds, count, unit.request_id)
        result: R = self._read(rows)
        return result


def sql(
    text: str,
) -> Callable[[Callable[Concatenate[U, P], Coroutine[Any, Any, R]]], Statement[U, P, R]]:
    """Give a function the body it lacks: `$1, $2 ...` are its parameters after the unit.

    Shape: a `Record` among the parameters stands for its fields, in order. The return type decides
    the answer: `list[T]` all rows; `T | None` a row or nothing; `T` the row; `None` no answer;
    where T is a `Record` of a row's columns, in order, or else the type of the only column. A
    function of a `ReadUnit` runs in either kind of unit, one of a `Unit` only where writing may be.
    A test compiles every statement and compares it with the types given here.
    """
    return lambda function: Statement(text, function)


def _spread(value: Any) -> tuple[Any, ...]:
    return astuple(value) if isinstance(value, Record) else (value,)


def is_record(kind: Any) -> bool:
    """Tell whether a type stands for several columns."""
    return isinstance(kind, type) and issubclass(kind, Record)


def columns(kind: Any) -> list[Any]:
    """List the types of the columns that a type stands for."""
    if is_record(kind):
        hints = get_type_hints(kind)
        return [hints[name] for name in kind.__struct_fields__]
    return [kind]


def row_type(returns: Any) -> Any:
    """Strip `list[...]` or `| None` from a statement's return type."""
    if get_origin(returns) is not list and NoneType not in get_args(returns):
        return returns
    return next(kind for kind in get_args(returns) if kind is not NoneType)


def _reader(returns: Any) -> Callable[[list[asyncpg.Record]], Any]:
    if returns is NoneType:
        return lambda _rows: None
    make = _maker(row_type(returns))
    if get_origin(returns) is list:
        return lambda rows: [make(row) for row in rows]
    if NoneType in get_args(returns):
        return lambda rows: make(rows[0]) if rows else None
    return lambda rows: make(rows[0])


def _maker(kind: Any) -> Callable[[asyncpg.Record], Any]:
    if not is_record(kind):
        word = _word(kind)
        return (lambda row: word(row[0])) if word else (lambda row: row[0])
    words = [(place, word) for place, each in enumerate(columns(kind)) if (word := _word(each))]
    if not words:
        return lambda row: kind(*row)

    def make(row: asyncpg.Record) -> Any:
        values = list(row)
        for place, word in words:
            values[place] = word(values[place])
        return kind(*values)

    return make


def _word(kind: Any) -> Callable[[Any], Any] | None:
    """Say how text becomes a word of a closed list; nothing for other types."""
    inner = next((each for each in get_args(kind) if each is not NoneType), kind)
    if isinstance(inner, type) and issubclass(inner, StrEnum):
        known: dict[str | None, Any] = {str(word): word for word in inner}
        if NoneType in get_args(kind):
            known[None] = None
        return known.__getitem__
    return None

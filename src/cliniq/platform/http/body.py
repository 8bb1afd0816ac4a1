"""Request bodies: JSON as RFC 8259 means it, and nothing that the database could not hold."""

import json
from collections.abc import AsyncGenerator
from typing import Any, NoReturn

from starlette.exceptions import HTTPException
from starlette.requests import Request
from typing_extensions import override

LARGEST_BODY_BYTES = 256 * 1024
DEEPEST = 32
EXACT = 2**53  # below it, a float holds every integer


class StrictRequest(Request):
    """A request with a bounded body, whose JSON is refused where parsers disagree about it.

    Units: `largest`, bytes; a route may take more.
    """

    largest = LARGEST_BODY_BYTES

    def ensure_bounded(self) -> None:
        """Refuse a body that says itself that it is too large, whether anybody reads it or not.

        Raises: HTTPException 413, which is answered as PAYLOAD_TOO_LARGE.
        """
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self.largest:
            raise HTTPException(413)

    @override
    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Hand the body on, piece by piece. Raises: HTTPException 413; see `ensure_bounded`."""
        size = 0
        async for chunk in super().stream():
            size += len(chunk)
            if size > self.largest:
                raise HTTPException(413)
            yield chunk

    @override
    async def json(self) -> Any:
        """Parse the body. Raises: json.JSONDecodeError, which is answered as REQUEST_INVALID."""
        if not hasattr(self, "_parsed"):
            self._parsed = read_json(await self.body())
        return self._parsed


def read_json(raw: bytes) -> Any:
    """Parse JSON without duplicate keys, NaN, NUL, lone surrogates or endless nesting.

    Raises: json.JSONDecodeError with a word for what is wrong.
    """
    try:
        parsed = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_number,
        )
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError:
        _refuse("not UTF-8")
    except RecursionError:
        _refuse("nested too deeply")
    except ValueError as error:
        _refuse(str(error) if isinstance(error, _Refused) else "a number is too long")
    _ensure_storable(parsed, 0)
    return parsed


class _Refused(ValueError):
    """Our own word, told apart from the parser's."""


def _refuse(word: str) -> NoReturn:
    raise json.JSONDecodeError(word, "", 0)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("a key stands twice")
    return found


def _refuse_constant(_word: str) -> NoReturn:
    raise _Refused("not a number of JSON")


def _number(digits: str) -> float:
    """Read a number that is written with a point or an exponent.

    Without a fraction it is an integer, as JSON Schema means the word, where every reader of JSON
    takes it for the same one.
    """
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise _Refused("a number is too large")
    return int(number) if abs(number) < EXACT and number.is_integer() else number


def _ensure_storable(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        _refuse("nested too deeply")
    match value:
        case str():
            _ensure_text(value)
        case dict():
            for key, each in value.items():
                _ensure_text(key)
                _ensure_storable(each, depth + 1)
        case list():
            for each in value:
                _ensure_storable(each, depth + 1)


def _ensure_text(text: str) -> None:
    """Refuse what UTF-8 or PostgreSQL cannot hold."""
    if "\x00" in text:
        _refuse("a text holds NUL")
    if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
        _refuse("a text holds half a character")

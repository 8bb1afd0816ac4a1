"""Reads a request into a handler's arguments by a plan made once, when the route is registered.

FastAPI finds out what a handler takes and describes it; it also asks the same questions of the
types again at each request, which took a third of a short answer's time. What is read, and in which
order it is refused, is the same; a test holds the two side by side.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request

# What a handler may take; anything else is refused at registration rather than read wrongly.
_KNOWN = {
    "path_params",
    "query_params",
    "body_params",
    "dependencies",
    "name",
    "call",
    "request_param_name",
    "http_connection_param_name",
    "use_cache",
    "path",
    "scope",  # when a generator is closed, and there are none
}
_NOTHING: Mapping[str, str] = MappingProxyType({})
_ABSENT = object()  # not None, which a body may be


@dataclass(frozen=True, slots=True)
class _Parameter:
    """One value of the path, the query or, whole, the body."""

    name: str
    alias: str
    loc: tuple[str, ...]
    is_required: bool
    default: Any
    validate: Callable[..., tuple[Any, list[Any]]]

    def read(self, raw: object, values: dict[str, Any], wrong: list[Any]) -> None:
        """Put the value, or what is wrong with it, where it belongs."""
        if raw is _ABSENT:
            if self.is_required:
                wrong.append({"type": "missing", "loc": self.loc})
            else:
                values[self.name] = deepcopy(self.default)
            return
        value, errors = self.validate(raw, values, loc=self.loc)
        if errors:
            wrong.extend(errors)
        else:
            values[self.name] = value


@dataclass(slots=True)
class Reader:
    """The plan of one handler, or of one dependency of it."""

    name: str | None
    call: Callable[..., Awaitable[Any]]
    path: Sequence[_Parameter]
    query: Sequence[_Parameter]
    body: _Parameter | None
    request_names: Sequence[str]
    dependencies: Sequence["Reader"]
    needs_body: bool = field(init=False)

    def __post_init__(self) -> None:
        self.needs_body = self.body is not None or any(
            each.needs_body for each in self.dependencies
        )

    async def read(self, request: Request) -> dict[str, Any]:
        """Give the handler's arguments; doors among them are asked before anything is refused.

        Raises: RequestValidationError; whatever a dependency refuses with.
        """
        sent = await _body_of(request) if self.needs_body else _ABSENT
        wrong: list[Any] = []
        values = await self._solve(request, sent, wrong)
        if wrong:
            raise RequestValidationError(wrong)
        return values

    async def _solve(self, request: Request, sent: object, wrong: list[Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for each in self.dependencies:
            await each._ask(request, sent, values, wrong)  # noqa: SLF001 - its own kind
        self._take(request, sent, values, wrong)
        for name in self.request_names:
            values[name] = request
        return values

    async def _ask(
        self, request: Request, sent: object, values: dict[str, Any], wrong: list[Any]
    ) -> None:
        """Add what a dependency gives; one that was given wrong things is not asked."""
        before = len(wrong)
        given = await self._solve(request, sent, wrong)
        if len(wrong) == before:
            solved = await self.call(**given)
            if self.name is not None:
                values[self.name] = solved

    def _take(
        self, request: Request, sent: object, values: dict[str, Any], wrong: list[Any]
    ) -> None:
        if self.path:
            in_path = request.path_params
            for parameter in self.path:
                parameter.read(in_path.get(parameter.alias, _ABSENT), values, wrong)
        if self.query:
            in_query = request.query_params if request.scope["query_string"] else _NOTHING
            for parameter in self.query:
                parameter.read(in_query.get(parameter.alias, _ABSENT), values, wrong)
        if self.body is not None:
            self.body.read(sent, values, wrong)


def reader_of(dependant: Dependant) -> Reader:
    """Make the plan of what FastAPI found a handler to take.

    Raises: TypeError for what no plan knows: headers, forms, several bodies, generators.
    """
    unknown = {
        each.name
        for each in fields(dependant)
        if each.name not in _KNOWN and getattr(dependant, each.name)
    }
    call = dependant.call
    is_async = iscoroutinefunction(call) or iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004
    if unknown or len(dependant.body_params) > 1 or call is None or not is_async:
        raise TypeError(f"{dependant.path}: cannot read {sorted(unknown) or 'this handler'}")
    names = (dependant.http_connection_param_name, dependant.request_param_name)
    return Reader(
        dependant.name,
        call,
        [_parameter(each, "path") for each in dependant.path_params],
        [_parameter(each, "query") for each in dependant.query_params],
        _parameter(dependant.body_params[0], "body") if dependant.body_params else None,
        [each for each in names if each],
        [reader_of(each) for each in dependant.dependencies],
    )


def _parameter(found: Any, place: str) -> _Parameter:
    info = found.field_info
    alias = found.validation_alias or found.alias
    return _Parameter(
        found.name,
        alias,
        ("body",) if place == "body" else (place, alias),
        info.is_required(),
        None if info.is_required() else found.default,
        found.validate,
    )


async def _body_of(request: Request) -> object:
    """Read the body: JSON where it says that it is, bytes otherwise, nothing where there is none.

    Raises: RequestValidationError for what is not what it says it is.
    """
    raw = await request.body()
    if not raw:
        return _ABSENT
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("application/") or not kind.endswith(("/json", "+json")):
        return raw
    try:
        found: object = await request.json()
    except json.JSONDecodeError as error:
        raise RequestValidationError(
            [{"type": "json_invalid", "loc": ("body", error.pos), "ctx": {"error": error.msg}}]
        ) from error
    return found

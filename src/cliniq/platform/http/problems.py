"""Every refusal, ours or the framework's, as application/problem+json (RFC 9457)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cliniq.kernel.problem import (
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Problem,
    RequestInvalid,
)
from cliniq.platform.http.exchange import exchange_of

log = structlog.get_logger(__name__)

MOST_ERRORS = 20
MEDIA_TYPE = "application/problem+json"


def problems(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """Describe refusals for OpenAPI; several codes may share one status."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        entry = found.setdefault(
            kind.status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": SCHEMA_REF}}}},
        )
        entry["description"] = f"{entry['description']} `{kind.code}` {kind.title}.".strip()
    return found


def joined(
    common: dict[int | str, dict[str, Any]], own: dict[int | str, dict[str, Any]]
) -> dict[int | str, dict[str, Any]]:
    """Join two descriptions of refusals; what stands in both is said once."""
    found = common | own
    for status in common.keys() & own.keys():
        sentences = f"{common[status]['description']} {own[status]['description']}".split(". ")
        said = ". ".join(dict.fromkeys(each.rstrip(".") for each in sentences))
        found[status] = own[status] | {"description": f"{said}."}
    return found


SCHEMA_REF = "#/components/schemas/Problem"
SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "RFC 9457. Branch on `code`; further members are facts that belong to it.",
    "type": "object",
    "required": ["type", "title", "status", "code", "instance", "trace_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "pattern": "^[A-Z][A-Z_]+$"},
        "instance": {"type": "string"},
        "trace_id": {"type": "string"},
    },
}


def speak_problems(app: FastAPI) -> None:
    """Have every refusal rendered here."""
    app.add_exception_handler(Problem, say)
    app.add_exception_handler(RequestValidationError, say)
    app.add_exception_handler(HTTPException, say)
    app.add_exception_handler(Exception, say)


async def say(request: Request, error: Exception) -> Response:
    """Answer with a refusal; what is unexpected is logged."""
    problem = _as_problem(error)
    exchange = exchange_of(request)
    exchange.code = problem.code
    if problem.status == Problem.status:
        log.error("unexpected error", request_id=exchange.request_id, exc_info=error)
    body = {
        "type": f"/problems/{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "instance": request.scope["path"],  # of the URL, a strange Host or query could be no text
        "trace_id": exchange.request_id,
        **problem.facts,
    }
    headers = dict(problem.headers) | dict(getattr(error, "headers", None) or {})  # such as Allow
    return Response(msgspec.json.encode(body), problem.status, headers, media_type=MEDIA_TYPE)


_BY_STATUS: Mapping[int, type[Problem]] = MappingProxyType(
    {404: NotFound, 405: MethodNotAllowed, 413: PayloadTooLarge}
)


def _as_problem(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return RequestInvalid(errors=_places(error))
        case HTTPException():
            known = _BY_STATUS.get(error.status_code)
            return known() if known else RequestInvalid(errors=["body: unreadable"])
        case _:
            return Problem()


def _places(error: RequestValidationError) -> list[str]:
    """Say where and what, never with the value: it may be a patient's."""
    return [
        f"{'.'.join(map(_word, each['loc']))}: {_reason(each)}"
        for each in error.errors()[:MOST_ERRORS]
    ]


def _reason(each: Any) -> str:
    if each["type"] == "json_invalid":
        return f"json_invalid ({each['ctx']['error']})"
    return str(each["type"])


def _word(part: object) -> str:
    return str(part)[:60].encode("utf-8", "replace").decode()

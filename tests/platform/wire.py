"""The API as its own document describes it: every operation, with good examples and with bad ones.

What the tests demand of all operations, they demand of those that are added later too.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias
from urllib.parse import unquote

import httpx2
from fastapi import FastAPI
from typing_extensions import override

from cliniq.app import build_app
from cliniq.kernel.permissions import GRANTED, Role
from cliniq.platform.http.problems import MEDIA_TYPE
from tests.support import NOON

Schema: TypeAlias = Mapping[str, Any]

MEMBERS = {"type", "title", "status", "code", "instance", "trace_id"}
UNDOCUMENTED = {405, 413}  # of any path and any body, so no operation names them
MARK = "Zaphod"  # stands in every text that is sent, and must come back in none


@dataclass(frozen=True)
class Operation:
    """One method of one path, as the OpenAPI document describes it."""

    method: str
    path: str
    words: str  # who may: the document's x-permission
    path_names: tuple[str, ...]
    query: Mapping[str, Schema]
    body: Schema | None
    body_required: bool
    refusals: Mapping[int, frozenset[str]]
    takes_file: bool

    @override
    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_public(self) -> bool:
        return self.words.startswith("public: ")

    @property
    def permission(self) -> str:
        """The permission that a member of staff needs; empty where staff have no way in."""
        first = self.words.split(" or ")[0]
        return first if re.fullmatch(r"[a-z-]+:[a-z-]+", first) else ""

    @property
    def file(self) -> str | None:
        """A body of an operation that takes a file; none for others."""
        return MARK if self.takes_file else None

    @property
    def is_for_patients(self) -> bool:
        return self.words.split(" or ")[-1] == "self"

    @property
    def roles(self) -> list[Role]:
        """The roles of a clinic that may do it."""
        return [role for role in Role if self.permission in GRANTED[role] and role in STAFF]

    def matches(self, url: str) -> bool:
        return bool(re.fullmatch(re.sub(r"\{[a-z_]+\}", "[^/]+", self.path), url))

    def url(self, ids: Mapping[str, str]) -> str:
        return self.path.format_map(ids)

    def example(self, ids: Mapping[str, str]) -> dict[str, Any]:
        """A body that the schema allows, with every property."""
        assert self.body is not None
        made = {name: example(each, name, ids) for name, each in self.properties.items()}
        return {name: value for name, value in made.items() if name not in OPTED_OUT}

    @property
    def properties(self) -> Mapping[str, Schema]:
        found: Mapping[str, Schema] = (self.body or {}).get("properties", {})
        return found

    @property
    def required(self) -> Sequence[str]:
        found: Sequence[str] = (self.body or {}).get("required", ())
        return found


STAFF: list[Role] = [role for role in Role if role not in {Role.SUPER_ADMIN, Role.PATIENT}]
OPTED_OUT = {"scan_pass", "scan_secret", "all"}  # a scan takes either a code or these


@cache
def operations() -> list[Operation]:
    """List every operation of the document; the application needs no house to write it."""
    document = build_app().openapi()
    return list(_read(document))


def _read(document: Schema) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            parameters = each.get("parameters", ())
            body = each.get("requestBody")
            written = body["content"].get("application/json") if body else None
            schema = _plain(written["schema"], document) if written else {}
            yield Operation(
                method.upper(),
                path,
                each["x-permission"],
                tuple(one["name"] for one in parameters if one["in"] == "path"),
                {
                    one["name"]: _plain(one["schema"], document)
                    for one in parameters
                    if one["in"] == "query"
                },
                schema or None,
                bool(body and body.get("required")),
                {
                    int(status): frozenset(re.findall(r"`([A-Z_]+)`", said["description"]))
                    for status, said in each["responses"].items()
                    if int(status) >= 400
                },
                bool(body and not written),
            )


def _plain(schema: Any, document: Schema) -> Any:
    """Follow every `$ref`; of `X or null` keep X, marked as nullable."""
    if isinstance(schema, list):
        return [_plain(each, document) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        found = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return _plain(found, document)
    plain = {key: _plain(each, document) for key, each in schema.items()}
    if "anyOf" in plain:
        kinds = [each for each in plain["anyOf"] if each != {"type": "null"}]
        assert len(kinds) == 1, f"teach these tests what this is: {schema}"
        return kinds[0] | {"nullable": True}
    return plain


def example(schema: Schema, name: str, ids: Mapping[str, str]) -> Any:
    """Make a value that a schema allows; ids are those given."""
    if name in ids or schema.get("format") == "uuid":
        return ids[name]
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "array":
        return [example(schema["items"], name.removesuffix("s"), ids)]
    kind = schema.get("format", schema["type"])
    assert kind in EXAMPLES, f"teach these tests what {name} is: {kind}"
    return int(schema["minimum"]) if "minimum" in schema else EXAMPLES[kind]


EXAMPLES: Mapping[str, Any] = {
    "boolean": True,
    "integer": 1,
    "date": "2024-02-29",
    "date-time": NOON.isoformat(),
    "string": MARK,
    "password": MARK,
}
NO_DAYS = (
    "2026-02-30",
    "2025-02-29",
    "2026-13-01",
    "2026-00-10",
    "0000-00-00",
    "2026-1-1",
    "20260101",
    "1899-12-31",
    "2200-01-01",
    "9999-12-31",
    "0001-01-01",
    "-2026-01-01",
    "2026-01-01T00:00:00Z",
    "0",
    "1767225600",
    "today",
    "",
)
NO_INSTANTS = (
    "2026-02-30T10:00:00Z",
    "2026-13-01T10:00:00Z",
    "2026-01-01T25:00:00Z",
    "2026-01-01T10:61:00Z",
    "2026-01-01",
    "2026-01-01T10:00:00",
    "2026-01-01T10:00:00+25:00",
    "2026-01-01T10:00:00 Mars/Olympus",
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00Z",
    "1899-12-31T23:59:59Z",
    "2200-01-01T00:00:00Z",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31T23:59:59.999999999Z",
    "1767225600",
    "now",
    "",
)
NO_IDS = ("", MARK, "0" * 10_000, "00000000-0000-0000-0000-00000000000g", "1", "../" * 12)
OTHERS: Mapping[str, Sequence[Any]] = {
    "string": (1, 1.5, True, [], {}, [MARK]),
    "integer": ("1", MARK, 1.5, True, [], {}, 10**30, -(10**30), 10**4000),
    "boolean": ("true", 1, 0, MARK, [], {}),
    "array": (MARK, 1, True, {}, [None], [[]], [{}], [MARK]),
}


BOUNDS = {"minimum": -1, "maximum": 1, "exclusiveMinimum": 0, "exclusiveMaximum": 0}


def sins(schema: Schema) -> Iterator[Any]:
    """Make values of JSON that a schema forbids."""
    kind = schema["type"]
    yield from OTHERS[kind]
    if not schema.get("nullable"):
        yield None
    if "enum" in schema:
        yield MARK
    elif kind == "string":
        yield from _no_texts(schema)
    for bound, step in BOUNDS.items():
        if bound in schema:
            yield int(schema[bound]) + step
    if "maxItems" in schema:
        yield [NIL] * (schema["maxItems"] + 1)
    if schema.get("minItems"):
        yield []


NIL = "00000000-0000-0000-0000-000000000000"


def _no_texts(schema: Schema) -> Iterator[str]:
    known = {"date": NO_DAYS, "date-time": NO_INSTANTS, "uuid": NO_IDS}
    yield from known.get(schema.get("format", ""), ())
    if "maxLength" in schema:
        yield MARK + "x" * schema["maxLength"]
    if schema.get("minLength"):
        yield ""
    if "pattern" in schema:
        odd = ("\x01", f"{MARK}\n{MARK}")
        yield from (each for each in odd if not re.search(schema["pattern"], each))


def query_sins(schema: Schema) -> Iterator[str]:
    """Make values of a query that a schema forbids."""
    if "enum" in schema or schema.get("format") in {"uuid", "date", "date-time"}:
        yield from (MARK, "", "\x00", "null", "[]")
        yield from _no_texts(schema)
    elif schema["type"] == "integer":
        yield from ("", MARK, "1.5", "1e3", "\x00", "9" * 5000, "-1", "0x10", "null")
        yield str(int(schema["maximum"]) + 1)
        yield str(int(schema["minimum"]) - 1)
    elif schema["type"] == "string":
        yield MARK + "x" * schema["maxLength"]


@dataclass(frozen=True)
class Answer:
    """What came back over ASGI."""

    status_code: int
    headers: httpx2.Headers
    content: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


async def ask(
    app: FastAPI,
    method: str,
    target: bytes,
    headers: Mapping[bytes, bytes] | None = None,
    chunks: Sequence[bytes] = (),
) -> Answer:
    """Ask as a server would that got these very bytes, which no client library would send."""
    raw_path, _, query = target.partition(b"?")
    waiting = [*chunks, b""]
    said: list[Any] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": list(({b"host": b"cliniq.test"} | dict(headers or {})).items()),
        "client": ("127.0.0.1", 1),
        "server": ("cliniq.test", 80),
    }

    async def receive() -> dict[str, Any]:
        if not waiting:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        said.append(message)

    await app(scope, receive, send)
    start, *rest = said
    body = b"".join(each.get("body", b"") for each in rest)
    return Answer(start["status"], httpx2.Headers(start["headers"]), body)


def ensure_dressed(answer: httpx2.Response | Answer, path: str) -> None:
    """Fail unless the answer carries what every answer carries."""
    headers = answer.headers
    assert re.fullmatch(r"[A-Za-z0-9._-]{8,64}", headers["x-request-id"])
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'self'" in headers["content-security-policy"]
    if path.startswith("/api/"):
        assert headers["cache-control"] == "no-store"


def refusal(
    answer: httpx2.Response | Answer, status: int, code: str, *, path: str | None = None
) -> Mapping[str, Any]:
    """Fail unless the answer is this refusal, as a problem document; return the document."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == MEDIA_TYPE
    document: dict[str, Any] = answer.json()
    assert document.keys() >= MEMBERS
    assert document["code"] == code, document
    assert document["status"] == status
    assert document["type"] == f"/problems/{code}"
    assert document["title"]
    assert document["trace_id"] == answer.headers["x-request-id"]
    if path is not None:
        assert document["instance"] == path
    ensure_dressed(answer, document["instance"])
    return document


def ensure_documented(operation: Operation, answer: httpx2.Response | Answer) -> None:
    """Fail unless the document says that the operation may refuse so."""
    if answer.status_code >= 400 and answer.status_code not in UNDOCUMENTED:
        code = answer.json()["code"]
        known = operation.refusals.get(answer.status_code, frozenset())
        assert code in known, f"{operation} does not say that it answers {code}"

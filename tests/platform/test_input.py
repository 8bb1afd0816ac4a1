"""What bad input gets: a problem document with a code, never a 5xx, never what was sent."""

import json
from collections.abc import AsyncIterator, Mapping

import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from cliniq.domains.patients import service as patients
from cliniq.platform.db import Unit
from cliniq.platform.http.body import LARGEST_BODY_BYTES
from tests.platform.wire import (
    MARK,
    NIL,
    Operation,
    ask,
    ensure_dressed,
    operations,
    query_sins,
    refusal,
    sins,
)
from tests.support import Client, SomeClinic


class Nil(dict[str, str]):
    """Every id is one that nobody has."""

    def __missing__(self, name: str) -> str:
        return NIL


ANY = Nil(
    {
        "code": "c0de",
        "email": f"{MARK}@example.org",
        "secret_hash": "A" * 43,
    }
)
WITH_BODY = [each for each in operations() if each.body]
JSON = {"content-type": "application/json"}


def over_and_over(opening: bytes, inner: bytes, closing: bytes, times: int = 100_000) -> bytes:
    return opening * times + inner + closing * times


# A body that is bad whatever the operation wants, and what is said of it.
BODIES: Mapping[str, tuple[bytes, str]] = {
    "cut off": (b'{"a": ', "Expecting value"),
    "two values": (b"{} {}", "Extra data"),
    "a comma too many": (b'{"a": 1,}', ""),
    "single quotes": (b"{'a': 1}", "Expecting property name"),
    "a comment": (b"{} // no", "Extra data"),
    "only blanks": (b" \r\n\t", "Expecting value"),
    "deep lists": (over_and_over(b"[", b"", b"]"), "nested too deeply"),
    "deep objects": (over_and_over(b'{"a":', b"1", b"}", 40_000), "nested too deeply"),
    "endless opening": (b"[" * 100_000, "nested too deeply"),
    "33 levels": (over_and_over(b"[", b"1", b"]", 34), "nested too deeply"),
    "a raw NUL": (b'{"a": "\x00"}', "Invalid control character"),
    "an escaped NUL": (b'{"a": "x\\u0000y"}', "a text holds NUL"),
    "a NUL in a key": (b'{"\\u0000": 1}', "a text holds NUL"),
    "a NUL far below": (b'{"a": [{"b": ["\\u0000"]}]}', "a text holds NUL"),
    "half a character": (b'{"a": "\\ud800"}', "half a character"),
    "the other half": (b'{"a": "\\udc00"}', "half a character"),
    "halves in the wrong order": (b'{"a": "\\udc00\\ud800"}', "half a character"),
    "half a character in a key": (b'{"\\ud800": 1}', "half a character"),
    "a key twice": (b'{"a": 1, "a": 1}', "a key stands twice"),
    "a key twice, spelt differently": (b'{"a": 1, "\\u0061": 1}', "a key stands twice"),
    "a key twice below": (b'{"b": [{"a": 1, "a": 1}]}', "a key stands twice"),
    "NaN": (b'{"a": NaN}', "not a number of JSON"),
    "Infinity": (b'{"a": Infinity}', "not a number of JSON"),
    "-Infinity": (b'{"a": [-Infinity]}', "not a number of JSON"),
    "1e999": (b'{"a": 1e999}', "a number is too large"),
    "-1e999": (b'{"a": -1e999}', "a number is too large"),
    "a huge integer": (b'{"a": ' + b"9" * 10_000 + b"}", "a number is too long"),
    "Latin-1": ('{"a": "\xfc"}'.encode("latin-1"), "not UTF-8"),
    "UTF-16": ("{}".encode("utf-16"), "not UTF-8"),
    "an overlong NUL": (b'{"a": "\xc0\x80"}', "not UTF-8"),
    "a raw surrogate": (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "a raw newline": (b'{"a": "\n"}', "Invalid control character"),
}


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
async def test_body_that_is_no_json_is_refused_with_the_reason(
    client: Client, clinic: SomeClinic, operation: Operation
) -> None:
    url = operation.url(ANY)
    for why, (raw, reason) in BODIES.items():
        answer = await client.request(
            operation.method, url, content=raw, headers=clinic.acting(clinic.admin) | JSON
        )
        document = refusal(answer, 422, "REQUEST_INVALID", path=url)
        assert document["errors"][0].startswith("body"), why
        assert reason in document["errors"][0], why


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
async def test_key_that_stands_twice_is_refused_though_all_else_is_well(
    client: Client, clinic: SomeClinic, operation: Operation
) -> None:
    body = operation.example(ANY)
    name = next(iter(body))
    twice = f"{json.dumps(body)[:-1]}, {json.dumps(name)}: {json.dumps(body[name])}}}"
    answer = await client.request(
        operation.method,
        operation.url(ANY),
        content=twice,
        headers=clinic.acting(clinic.admin) | JSON,
    )
    assert refusal(answer, 422, "REQUEST_INVALID")["errors"] == [
        "body.0: json_invalid (a key stands twice)"
    ]


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
async def test_body_larger_than_256_kib_is_refused_with_and_without_a_length(
    client: Client, clinic: SomeClinic, operation: Operation
) -> None:
    async def in_chunks(raw: bytes) -> AsyncIterator[bytes]:
        for begin in range(0, len(raw), 10_000):
            yield raw[begin : begin + 10_000]

    headers = clinic.acting(clinic.admin) | JSON
    url, body = operation.url(ANY), json.dumps(operation.example(ANY)).encode()
    full = body.ljust(LARGEST_BODY_BYTES)
    for raw in (full + b" ", full * 8):
        for content in (raw, in_chunks(raw)):
            answer = await client.request(operation.method, url, content=content, headers=headers)
            refusal(answer, 413, "PAYLOAD_TOO_LARGE", path=url)
    for content in (full, in_chunks(full)):
        answer = await client.request(operation.method, url, content=content, headers=headers)
        assert answer.status_code not in {413, 422, 500}, answer.text


async def test_body_where_none_is_wanted_is_never_answered_by_half(
    app: FastAPI, clinic: SomeClinic
) -> None:
    for operation in operations():
        if not (operation.body or operation.takes_file):
            headers = {
                name.lower().encode(): value.encode()
                for name, value in clinic.acting(clinic.admin).items()
            } | {b"content-length": str(LARGEST_BODY_BYTES + 1).encode()}
            url = operation.url(ANY)
            answer = await ask(app, operation.method, url.encode(), headers)
            refusal(answer, 413, "PAYLOAD_TOO_LARGE", path=url)


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
async def test_body_of_another_kind_is_refused(
    client: Client, clinic: SomeClinic, operation: Operation
) -> None:
    url, body = operation.url(ANY), json.dumps(operation.example(ANY)).encode()
    headers = clinic.acting(clinic.admin)

    async def send(content: bytes, kind: str | None) -> None:
        typed = headers | ({"content-type": kind} if kind else {})
        answer = await client.request(operation.method, url, content=content, headers=typed)
        refusal(answer, 422, "REQUEST_INVALID", path=url)
        assert MARK not in answer.text

    for kind in (
        None,
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application",
        "\x00",
    ):
        await send(body, kind)
    for other in (b"[]", b"[%s]" % body, b'"Zaphod"', b"17", b"true", json.dumps(body.decode())):
        await send(other if isinstance(other, bytes) else other.encode(), "application/json")
    if operation.body_required:
        await send(b"", "application/json")
        await send(b"null", "application/json")
        for required in operation.required:
            rest = {key: each for key, each in operation.example(ANY).items() if key != required}
            await send(json.dumps(rest).encode(), "application/json")


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
async def test_field_that_is_unknown_or_wrong_is_named_and_its_value_is_not_told(
    client: Client, clinic: SomeClinic, operation: Operation
) -> None:
    url, good = operation.url(ANY), operation.example(ANY)
    headers = clinic.acting(clinic.admin)

    async def refuse(name: str, value: object) -> None:
        body = good | {name: value}
        answer = await client.request(operation.method, url, json=body, headers=headers)
        assert answer.status_code == 422, (name, value, answer.text)
        document = refusal(answer, 422, "REQUEST_INVALID", path=url)
        assert all(each.startswith("body") for each in document["errors"])
        assert any(each.startswith(f"body.{name}") for each in document["errors"]), (name, value)
        assert MARK not in answer.text

    for name in ("clinic_id", "role", "status", "amount", "id", "version_", "__proto__", "x" * 60):
        if name not in operation.properties:
            await refuse(name, MARK)
    for name, schema in operation.properties.items():
        for value in sins(schema):
            await refuse(name, value)


@pytest.mark.parametrize("operation", [each for each in operations() if each.query], ids=str)
async def test_query_that_is_wrong_is_named_and_its_value_is_not_told(
    client: Client, clinic: SomeClinic, operation: Operation
) -> None:
    url, headers = operation.url(ANY), clinic.acting(clinic.admin)
    for name, schema in operation.query.items():
        for value in query_sins(schema):
            answer = await client.request(
                operation.method, url, params={name: value}, headers=headers
            )
            document = refusal(answer, 422, "REQUEST_INVALID", path=url)
            assert document["errors"][0].startswith(f"query.{name}"), (name, value)
            assert MARK not in answer.text


@pytest.mark.parametrize(
    "operation",
    [each for each in operations() if any(name.endswith("_id") for name in each.path_names)],
    ids=str,
)
async def test_id_in_the_path_that_is_none_is_refused(
    app: FastAPI, clinic: SomeClinic, operation: Operation
) -> None:
    headers = {
        name.lower().encode(): value.encode() for name, value in clinic.acting(clinic.admin).items()
    }
    for name in operation.path_names:
        for bad in (
            "1",
            "%00",
            NIL[:-1],
            f"{NIL}%00",
            NIL + "0",
            "%ff%fe",
            "%c0%80",
            "%u0041",
            "%",
        ):
            target = operation.url(Nil(ANY | {name: bad}))
            answer = await ask(app, operation.method, target.encode(), headers)
            document = refusal(answer, 422, "REQUEST_INVALID")
            assert f"path.{name}: uuid_parsing" in document["errors"]
        for bad in ("..", "%2e%2e", "a%2fb", "", "/"):
            target = operation.url(Nil(ANY | {name: bad}))
            answer = await ask(app, operation.method, target.encode(), headers)
            assert answer.status_code in {404, 405, 422}, (bad, answer.status_code)
            refusal(answer, answer.status_code, answer.json()["code"])


def raw(headers: Mapping[str, str], **more: bytes) -> dict[bytes, bytes]:
    """Headers as bytes; an underscore in a name stands for a hyphen."""
    plain = {name.lower().encode(): value.encode() for name, value in headers.items()}
    return plain | {name.replace("_", "-").encode(): value for name, value in more.items()}


@pytest.mark.parametrize("operation", [each for each in operations() if each.permission], ids=str)
async def test_clinic_in_the_header_that_is_no_id_is_refused(
    app: FastAPI, clinic: SomeClinic, operation: Operation
) -> None:
    body = [json.dumps(operation.example(ANY)).encode()] if operation.body else []
    headers = raw(clinic.receptionist.headers, content_type=b"application/json")
    target = operation.url(ANY).encode()
    for bad in (b"", b" ", b"\x00", NIL.encode() + b"\x00", b"\xff\xfe", b"' or 1=1", b"0" * 9999):
        answer = await ask(app, operation.method, target, headers | {b"x-clinic-id": bad}, body)
        document = refusal(answer, 422, "REQUEST_INVALID")
        assert document["errors"] == ["header.x-clinic-id: uuid_parsing"], bad


@pytest.mark.parametrize(
    "operation", [each for each in operations() if not each.is_public], ids=str
)
async def test_nobody_with_a_strange_sign_in_comes_in_whatever_else_is_wrong(
    app: FastAPI, clinic: SomeClinic, operation: Operation
) -> None:
    token = clinic.admin.access_token.encode()
    target = operation.url(ANY).encode()
    for bad in (
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic " + token,
        b"Bearer \x00" + token,
        b"Bearer " + token + b"\x00",
        b"Bearer " + token[:-1],
        b"Bearer \xff\xfe",
        b"Bearer " + token + b"." + token,
        b"Bearer " + b"x" * 100_000,
        b"Bearer ..",
    ):
        for body in (b"", b'{"a": ', b" " * (LARGEST_BODY_BYTES + 1)):
            headers = raw(JSON, authorization=bad, x_clinic_id=b"\x00")
            answer = await ask(app, operation.method, target, headers, [body])
            document = refusal(answer, 401, "UNAUTHENTICATED")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert document.keys() == {"type", "title", "status", "code", "instance", "trace_id"}


@pytest.mark.parametrize(
    "bad", [b"", b"short", b"x" * 65, b"12345678\x00", b"12345678\n", b"\xff" * 8, b"a b c d e f"]
)
async def test_request_id_that_is_strange_is_replaced(app: FastAPI, bad: bytes) -> None:
    answer = await ask(app, "GET", b"/api/v1/nowhere", {b"x-request-id": bad})
    document = refusal(answer, 404, "NOT_FOUND")
    assert document["trace_id"].encode() != bad


async def test_request_id_that_is_sound_is_kept(app: FastAPI) -> None:
    answer = await ask(app, "GET", b"/api/v1/nowhere", {b"x-request-id": b"A.b_c-0123"})
    assert refusal(answer, 404, "NOT_FOUND")["trace_id"] == "A.b_c-0123"


@pytest.mark.parametrize("host", [b"", b"[", b"[::1", b"a/b?c=d#e", b"\xff", b"x" * 9999, b"a:b"])
async def test_strange_host_changes_nothing(app: FastAPI, host: bytes) -> None:
    answer = await ask(app, "GET", b"/api/v1/nowhere", {b"host": host})
    refusal(answer, 404, "NOT_FOUND", path="/api/v1/nowhere")


@pytest.mark.parametrize(
    "target",
    [
        b"/nowhere",
        b"/api",
        b"/api/v1",
        b"/api/v1/",
        b"/api/v1/me/",
        b"/api/v1//me",
        b"//api/v1/me",
        b"//evil.example/%2e%2e",
        b"/api/v1/me%00",
        b"/%00",
        b"/%ff%fe",
        b"/%c0%ae%c0%ae/",
        b"/%ed%a0%80",
        b"/%",
        b"/%zz",
        b"/" + b"x" * 60_000,
        b"/api/v1/nowhere?%ff=%00&\xff\xfe",
        b"/problems/%00",
        b"/problems/" + MARK.encode(),
        b"/assets",
        b"/assets/",
        b"/assets/%00",
        b"/assets/" + b"x" * 5000,
        b"/assets/nothing.js",
        b"/assets/../index.html",
        b"/assets/%2e%2e/index.html",
        b"/assets/..%2f..%2f..%2f..%2fetc/passwd",
        b"/assets//etc/passwd",
        b"/docs",
        b"/redoc",
        b"/openapi.json/",
    ],
)
async def test_address_that_leads_nowhere_is_refused(app: FastAPI, target: bytes) -> None:
    refusal(await ask(app, "GET", target), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    "path", sorted({each.path for each in operations()} | {"/", "/c/{code}", "/metrics"})
)
async def test_method_that_an_address_does_not_take_is_refused(app: FastAPI, path: str) -> None:
    url = path.format_map(ANY)
    known = {each.method for each in operations() if each.matches(url)} or {"GET"}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} - known:
        answer = await ask(app, method, url.encode())
        refusal(answer, 405, "METHOD_NOT_ALLOWED", path=url)
        allowed = set(answer.headers["allow"].replace(" ", "").split(","))
        assert allowed
        assert allowed <= known


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/c/anything",
        "/assets/cliniq.css",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
        "/problems/NOT_FOUND",
    ],
)
async def test_everything_that_is_served_is_dressed(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    ensure_dressed(answer, path)


async def test_answer_of_the_api_is_not_to_be_stored(client: Client, clinic: SomeClinic) -> None:
    answer = await client.get("/api/v1/me", headers=clinic.admin.headers)
    assert answer.status_code == 200
    ensure_dressed(answer, "/api/v1/me")


@pytest.mark.parametrize("kind", ["a broken statement", "a failed check", "a bug"])
async def test_error_of_ours_is_told_to_nobody(
    app: FastAPI,
    client: Client,
    clinic: SomeClinic,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(unit: Unit, *_: object) -> None:
        if kind == "a broken statement":
            await unit.connection.execute("select $1::no_such_type", MARK)
        if kind == "a failed check":
            await unit.connection.execute(
                "insert into patient (patient_id, person_id, given_name, family_name)"
                " values ($1, $1, $2, $2)",
                clinic.clinic_id,
                MARK,
            )
        raise RuntimeError(MARK)

    monkeypatch.setattr(patients, "register", broken)
    with capture_logs() as journal:
        answer = await client.post(
            "/api/v1/patients",
            json={"given_name": MARK, "family_name": MARK},
            headers=clinic.acting(clinic.receptionist),
        )
    logged = [each for each in journal if each["log_level"] == "error"]
    assert [each["request_id"] for each in logged] == [answer.headers["x-request-id"]]
    document = refusal(answer, 500, "INTERNAL", path="/api/v1/patients")
    assert document.keys() == {"type", "title", "status", "code", "instance", "trace_id"}
    assert MARK not in answer.text
    counted = (await client.get("/metrics")).text
    assert 'cliniq_problems_total{code="INTERNAL"}' in counted
    assert MARK not in counted

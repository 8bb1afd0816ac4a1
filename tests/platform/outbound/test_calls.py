"""Calls to real servers on loopback: what is sent, what is asked again, what is refused."""

import asyncio
import json
import logging
from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from cliniq.kernel.ids import ClinicId, new_id
from cliniq.platform.outbound.provider import Provider, Request
from cliniq.platform.outbound.refusals import (
    OutboundRequestRefused,
    ProviderAnswerUnusable,
    ProviderRefused,
    ProviderUnavailable,
)
from cliniq.platform.outbound.soundness import ensure_sound
from tests.platform.outbound.servers import Server, calling, reply, serving
from tests.support import NOON

CLINIC = ClinicId(new_id())
CANARY = "canary-7f3a"
TINY = 0.001


def provider_at(*servers: Server, **facts: object) -> Provider:
    ports = frozenset(server.port for server in servers)
    given_facts = {"pause_seconds": TINY, "longest_pause_seconds": TINY} | facts
    return Provider("acme", ports=ports, is_plain=True, **given_facts)  # type: ignore[arg-type]


async def test_provider_is_asked_and_its_answer_comes_whole() -> None:
    async with serving(reply(201, b"made", x_id="7")) as server, calling() as caller:
        request = Request("POST", server.url("/send?a=b"), {"Authorization": "Bearer x"}, b"{}")
        answer = await caller.outbound.call(CLINIC, provider_at(server), request)
    assert (answer.status, answer.body, answer.headers["x-id"]) == (201, b"made", "7")
    (heard,) = server.heard
    assert (heard.method, heard.path, heard.body) == ("POST", "/send?a=b", b"{}")
    assert heard.headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": "cliniq",
        "accept-encoding": "identity",
        "authorization": "Bearer x",
        "content-length": "2",
    }
    assert caller.counted("cliniq_outbound_calls_total", provider="acme", outcome="OK") == 1
    assert caller.counted("cliniq_outbound_seconds_count", provider="acme") == 1
    assert caller.counted("cliniq_outbound_breakers", provider="acme", state="closed") == 1
    assert caller.counted("cliniq_outbound_in_flight", provider="acme") == 0


async def test_connection_is_kept_but_no_cookie() -> None:
    async with serving(reply(200, b"", set_cookie="who=me")) as server, calling() as caller:
        for _ in range(3):
            await caller.outbound.call(CLINIC, provider_at(server), Request("GET", server.url()))
    assert server.connected == 1
    assert all("cookie" not in heard.headers for heard in server.heard)


async def test_refusal_names_provider_and_status_and_nothing_it_said() -> None:
    body = json.dumps({"error": CANARY}).encode()
    async with serving(reply(403, body)) as server, calling() as caller:
        with pytest.raises(ProviderRefused) as refused:
            await caller.outbound.call(CLINIC, provider_at(server), Request("GET", server.url()))
        assert refused.value.facts == {"provider": "acme", "provider_status": 403}
        assert CANARY not in f"{refused.value!r} {vars(refused.value)}"
        expecting = Request("GET", server.url(), expects=frozenset({403}))
        answer = await caller.outbound.call(CLINIC, provider_at(server), expecting)
        assert answer.body == body
    assert len(server.heard) == 2


# --- what is asked again --------------------------------------------------------------------------

KEY = {"Idempotency-Key": "k1"}


@pytest.mark.parametrize(
    ("request_", "status", "tries"),
    [
        (Request("GET", ""), 503, 3),
        (Request("GET", ""), 502, 3),
        (Request("GET", ""), 504, 3),
        (Request("GET", ""), 429, 3),
        (Request("PUT", ""), 503, 3),
        (Request("DELETE", ""), 503, 3),
        (Request("POST", "", KEY), 503, 3),
        (Request("POST", ""), 429, 3),
        (Request("POST", ""), 503, 1),
        (Request("PATCH", ""), 503, 1),
        (Request("GET", ""), 500, 1),
        (Request("GET", ""), 501, 1),
    ],
)
async def test_only_what_may_pass_and_does_no_harm_is_asked_again(
    request_: Request, status: int, tries: int
) -> None:
    async with serving(reply(status)) as server, calling() as caller:
        request = Request(request_.method, server.url(), request_.headers)
        with pytest.raises(ProviderUnavailable) as refused:
            await caller.outbound.call(CLINIC, provider_at(server), request)
    assert len(server.heard) == tries
    assert refused.value.facts == {"dependency": "acme"}
    assert refused.value.may_have_arrived == (status != 429)


async def test_second_try_that_works_is_a_success() -> None:
    async with serving(reply(503), reply(200, b"well")) as server, calling() as caller:
        answer = await caller.outbound.call(
            CLINIC, provider_at(server), Request("GET", server.url())
        )
    assert answer.body == b"well"


async def test_connection_that_died_is_tried_again_only_where_that_does_no_harm() -> None:
    async with serving(b"", reply(200, b"well")) as server, calling() as caller:
        answer = await caller.outbound.call(
            CLINIC, provider_at(server), Request("GET", server.url())
        )
        assert answer.body == b"well"
        server.replies[:] = [b""]
        with pytest.raises(ProviderUnavailable) as refused:
            await caller.outbound.call(CLINIC, provider_at(server), Request("POST", server.url()))
        assert refused.value.may_have_arrived


async def test_nobody_there_is_tried_again_even_for_a_post_since_nothing_was_sent() -> None:
    async with serving() as server:
        pass
    async with calling() as caller:
        with pytest.raises(ProviderUnavailable) as refused:
            await caller.outbound.call(CLINIC, provider_at(server), Request("POST", server.url()))
        assert not refused.value.may_have_arrived
        state = {"provider": "acme", "state": "open"}
        assert caller.counted("cliniq_outbound_breakers", **state) == 0
        for _ in range(2):
            with pytest.raises(ProviderUnavailable):
                await caller.outbound.call(
                    CLINIC, provider_at(server), Request("POST", server.url())
                )
        assert caller.counted("cliniq_outbound_breakers", **state) == 1, "3 tries a call"


async def test_provider_that_asks_for_more_time_than_there_is_is_not_asked_again() -> None:
    dates = [
        format_datetime(NOON + timedelta(hours=1), usegmt=True),
        "3600",
        "60",
    ]
    for after in dates:
        async with serving(reply(503, retry_after=after)) as server, calling() as caller:
            with pytest.raises(ProviderUnavailable) as refused:
                await caller.outbound.call(
                    CLINIC, provider_at(server), Request("GET", server.url())
                )
        assert len(server.heard) == 1
        assert int(refused.value.headers["Retry-After"]) == (60 if after == "60" else 3600)


@pytest.mark.parametrize("after", ["0", "soon", "-1", "Mon, 99 Foo", "", "٣"])
async def test_word_of_when_that_says_nothing_is_overheard(after: str) -> None:
    said = reply(503, retry_after=after).replace("٣".encode(), b"\xd9\xa3")
    async with serving(said) as server, calling() as caller:
        with pytest.raises(ProviderUnavailable) as refused:
            await caller.outbound.call(CLINIC, provider_at(server), Request("GET", server.url()))
    assert len(server.heard) == 3
    assert refused.value.headers == {"Retry-After": "1"}


# --- what is bounded ------------------------------------------------------------------------------


async def test_answer_larger_than_the_bound_is_refused_without_being_kept() -> None:
    bound = 10_000
    async with calling() as caller:
        for length in (bound, bound + 1, 50_000_000):
            async with serving(reply(200, b"x" * length)) as server:
                provider = provider_at(server, largest_answer_bytes=bound)
                call = caller.outbound.call(CLINIC, provider, Request("GET", server.url()))
                if length == bound:
                    assert len((await call).body) == bound
                    continue
                with pytest.raises(ProviderAnswerUnusable):
                    await call


async def test_packed_answer_is_refused_since_it_does_not_say_its_size() -> None:
    async with serving(reply(200, b"x", content_encoding="gzip")) as server, calling() as caller:
        with pytest.raises(ProviderAnswerUnusable):
            await caller.outbound.call(CLINIC, provider_at(server), Request("GET", server.url()))


async def test_provider_that_trickles_is_given_up_at_the_deadline() -> None:
    async with serving(reply(200, b"x" * 100_000)) as server, calling() as caller:
        server.is_slow = True
        provider = provider_at(server, deadline_seconds=0.1)
        with pytest.raises(ProviderUnavailable) as refused:
            await caller.outbound.call(CLINIC, provider, Request("GET", server.url()))
        assert refused.value.may_have_arrived
        assert len(server.heard) == 1


async def test_silent_provider_is_given_up_before_the_deadline_and_not_asked_again() -> None:
    async with serving() as server, calling() as caller:
        server.is_silent = True
        with pytest.raises(ProviderUnavailable):
            await caller.outbound.call(
                CLINIC, provider_at(server, silence_seconds=0.05), Request("GET", server.url())
            )
        assert len(server.heard) == 1


async def test_caller_who_goes_away_tells_nothing_of_the_provider() -> None:
    async with serving() as server, calling() as caller:
        server.is_silent = True
        for _ in range(20):
            call = asyncio.create_task(
                caller.outbound.call(CLINIC, provider_at(server), Request("GET", server.url()))
            )
            while not server.open:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            while server.open:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        assert caller.counted("cliniq_outbound_breakers", provider="acme", state="closed") == 1
        cancelled = {"provider": "acme", "outcome": "CANCELLED"}
        assert caller.counted("cliniq_outbound_calls_total", **cancelled) == 20
        assert caller.counted("cliniq_outbound_in_flight", provider="acme") == 0


# --- what is unsound ------------------------------------------------------------------------------

SINS = [
    ("GET /x HTTP/1.1\r\nX", {}, "method"),
    ("get", {}, "method"),
    ("CONNECT", {}, "method"),
    ("TRACE", {}, "method"),
    *(
        ("GET", {name: value}, "header")
        for name, value in [
            ("X-A", "a\r\nX-B: b"),
            ("X-A", "a\nb"),
            ("X-A", "a\rb"),
            ("X-A", "a\x00b"),
            ("X-A", "a\x7f"),
            ("X-A", "a\x0bb"),
            ("X-A", "ä"),
            ("X-A", "a\u2028b"),
            ("X-A", "a\u560d\u560ab"),  # whose low bytes are CR and LF
            ("X-A", " a"),
            ("X-A", "a "),
            ("X-A\r\nX-B", "a"),
            ("X A", "a"),
            ("X:A", "a"),
            ("", "a"),
            ("Ä", "a"),
            ("Host", "evil.example"),
            ("Content-Length", "0"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close"),
            ("traceparent", "x"),
        ]
    ),
]


@pytest.mark.parametrize(("method", "headers", "part"), SINS)
async def test_request_that_says_two_things_is_refused_and_nothing_is_sent(
    method: str, headers: dict[str, str], part: str
) -> None:
    async with serving() as server, calling() as caller:
        with pytest.raises(OutboundRequestRefused) as refused:
            await caller.outbound.call(
                CLINIC, provider_at(server), Request(method, server.url(), headers)
            )
    assert refused.value.facts == {"part": part}
    assert server.connected == 0


@given(st.text(), st.text())
def test_sound_header_is_one_line_of_plain_signs(name: str, value: str) -> None:
    try:
        ensure_sound(Request("GET", "", {name: value}))
    except OutboundRequestRefused:
        return
    assert f"{name}{value}".isascii()
    assert not {"\r", "\n", "\x00"} & set(f"{name}{value}")


# --- what stays secret ----------------------------------------------------------------------------


async def test_secrets_are_in_no_log_no_metric_and_no_repr(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    body = CANARY.encode()
    async with serving(reply(503, body)) as server, calling() as caller:
        request = Request("GET", server.url(f"/{CANARY}?{CANARY}"), {"X-Key": CANARY}, body)
        provider = provider_at(server)
        with capture_logs() as journal:
            for status in (503, 403, 200):
                server.replies[:] = [reply(status, body)]
                (ended,) = await asyncio.gather(
                    caller.outbound.call(CLINIC, provider, request), return_exceptions=True
                )
                assert CANARY not in f"{ended!r} {ended} {getattr(ended, 'facts', '')}"
        said = caller.metrics.exposition().decode()
    assert CANARY not in repr(request)
    assert CANARY not in said
    assert str(CLINIC) not in said
    assert "127.0.0.1" not in said
    assert CANARY not in str(journal)
    ours = [each for each in caplog.records if not each.name.startswith(("httpcore2", "asyncio"))]
    assert CANARY not in str([each.getMessage() for each in ours])

"""One attempt: what is sent, over how many hops, and how much of the answer is read."""

from collections.abc import AsyncIterable, Mapping

import httpx2

from cliniq.platform.outbound.provider import Answer, Provider, Request
from cliniq.platform.outbound.refusals import (
    ProviderAnswerUnusable,
    ProviderBusy,
    ProviderUnavailable,
)
from cliniq.platform.outbound.soundness import read_url
from cliniq.platform.traces import carrier

MOVED = frozenset({301, 302, 303, 307, 308})
POOL_SECONDS = 1
# Plain answers only: a packed one says nothing of its size until it has filled the memory.
_OURS: Mapping[str, str] = {"user-agent": "cliniq", "accept-encoding": "identity"}


async def exchange(
    transport: httpx2.AsyncBaseTransport, provider: Provider, request: Request, url: httpx2.URL
) -> Answer:
    """Send a request and read the whole answer; follow as many hops of a GET as the provider may.

    Raises: OUTBOUND_ADDRESS_REFUSED 409, on any hop; PROVIDER_UNAVAILABLE, PROVIDER_BUSY,
    PROVIDER_ANSWER_UNUSABLE 503.
    """
    headers = {**_OURS, **request.headers}
    if provider.is_traced and (traceparent := carrier()):
        headers["traceparent"] = traceparent
    for hops_left in range(provider.hops, -1, -1):
        sent = httpx2.Request(
            request.method,
            url,
            headers=headers,
            content=request.content,
            extensions={"timeout": _timeouts(provider)},
        )
        answer = await _send(transport, provider, sent)
        if answer.status not in MOVED or answer.status in request.expects:
            return answer
        if not hops_left or request.method not in {"GET", "HEAD"}:
            break
        there = _next(url, answer, provider)
        if _origin(there) != _origin(url):
            headers = dict(_OURS)  # whatever is secret in the others is not for them
        url = there
    raise ProviderAnswerUnusable(provider.name, may_have_arrived=True)


async def _send(
    transport: httpx2.AsyncBaseTransport, provider: Provider, sent: httpx2.Request
) -> Answer:
    name = provider.name
    try:
        response = await transport.handle_async_request(sent)
        try:
            body = await _read(response, provider)
        finally:
            await response.aclose()
    except httpx2.PoolTimeout:
        raise ProviderBusy(name) from None
    except (httpx2.ConnectError, httpx2.ConnectTimeout):
        raise ProviderUnavailable(name, may_repeat=True) from None
    except (httpx2.NetworkError, httpx2.RemoteProtocolError):  # such as a connection kept too long
        raise ProviderUnavailable(name, may_have_arrived=True, may_repeat=True) from None
    except httpx2.HTTPError:
        raise ProviderUnavailable(name, may_have_arrived=True) from None
    return Answer(response.status_code, dict(response.headers), body)


async def _read(response: httpx2.Response, provider: Provider) -> bytes:
    unusable = ProviderAnswerUnusable(provider.name, may_have_arrived=True)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise unusable
    body = bytearray()
    stream = response.stream
    assert isinstance(stream, AsyncIterable)  # noqa: S101 - the transport is one of asyncio
    async for part in stream:
        body += part
        if len(body) > provider.largest_answer_bytes:
            raise unusable
    return bytes(body)


def _next(url: httpx2.URL, answer: Answer, provider: Provider) -> httpx2.URL:
    location = answer.headers.get("location", "")
    try:
        there = str(url.join(location)) if "://" not in location else location
    except httpx2.InvalidURL:
        raise ProviderAnswerUnusable(provider.name, may_have_arrived=True) from None
    return read_url(there.partition("#")[0], provider)


def _origin(url: httpx2.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port


def _timeouts(provider: Provider) -> dict[str, float]:
    return {
        "connect": provider.connect_seconds,
        "read": provider.silence_seconds,
        "write": provider.silence_seconds,
        "pool": POOL_SECONDS,
    }

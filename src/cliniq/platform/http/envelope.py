"""The outermost layer: an id for every request, safe headers, a count and a line in the log."""

from collections.abc import Callable
from time import perf_counter

import structlog
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cliniq.platform.http.address import Proxies
from cliniq.platform.http.exchange import Exchange, put_exchange
from cliniq.platform.telemetry import Metrics

log = structlog.get_logger("cliniq.http")

_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        (
            b"default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
            b"frame-ancestors 'none'"
        ),
    ),
]
_PRIVATE = (b"cache-control", b"no-store")


class Envelope:
    """Wraps the application. It adds to answers and never changes what they say."""

    def __init__(self, app: ASGIApp, metrics: Metrics, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies
        self._metrics = metrics
        self._children: dict[tuple[str, str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        asked = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        exchange = Exchange(asked)
        put_exchange(scope, exchange)
        self._proxies.settle(scope)
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        await self._answer(scope, receive, send, exchange)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        began = perf_counter()
        status = 0  # until an answer begins

        async def dress(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                headers.append((b"x-request-id", exchange.request_id.encode()))
                headers.extend(_ALWAYS)
                if scope["path"].startswith("/api/"):
                    headers.append(_PRIVATE)
            await send(message)

        try:
            await self._app(scope, receive, dress)
        except Exception:
            if status == 0:
                raise
            # It was answered and logged as a problem; the server need not hear of it again.
        finally:
            self._note(scope["method"], exchange, status, perf_counter() - began)

    def _note(self, method: str, exchange: Exchange, status: int, seconds: float) -> None:
        key = (method, exchange.route, status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._metrics.requests.labels(*key)
        child.observe(seconds)
        if exchange.code:
            self._metrics.problems.labels(exchange.code).inc()
        speak: Callable[..., None] = log.info if exchange.code else log.debug
        speak(
            "request",
            request_id=exchange.request_id,
            method=method,
            route=exchange.route,
            status=status,
            code=exchange.code,
            ms=round(seconds * 1000, 1),
        )

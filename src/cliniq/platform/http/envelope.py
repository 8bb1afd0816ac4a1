"""The outermost layer: an id for every request, safe headers, a count and a line in the log."""

from collections.abc import Callable, Iterable
from time import perf_counter

import structlog
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cliniq.platform import traces
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


def _has_own(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a route has said itself how long its answer keeps: it holds nobody's rows."""
    return any(name == _PRIVATE[0] for name, _ in headers)


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
            if exchange.sequel:  # a socket lives for hours: without the frames of all layers
                await exchange.sequel(receive, send)
            return
        if not traces.is_tracing():
            await self._answer(scope, receive, send, exchange)
            return
        # Who asks may name a trace of theirs, but not make us keep one: ours begins here.
        theirs = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        with traces.span("request", kind="server", links=[theirs.decode("latin-1")]) as opened:
            try:
                await self._answer(scope, receive, send, exchange)
            finally:
                opened.update_name(f"{scope['method']} {exchange.route}")
                opened.set_attributes(
                    {
                        "http.request.method": scope["method"],
                        "http.route": exchange.route,
                        "http.response.status_code": exchange.status,
                        "cliniq.code": exchange.code,
                        "cliniq.request_id": exchange.request_id,
                    }
                )

    async def _answer(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        began = perf_counter()

        async def dress(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                headers = message["headers"]
                headers.append((b"x-request-id", exchange.request_id.encode()))
                headers.extend(_ALWAYS)
                if scope["path"].startswith("/api/") and not _has_own(headers):
                    headers.append(_PRIVATE)
            await send(message)

        try:
            await self._app(scope, receive, dress)
        except Exception:
            if exchange.status == 0:
                raise
            # It was answered and logged as a problem; the server need not hear of it again.
        finally:
            self._note(scope["method"], exchange, perf_counter() - began)

    def _note(self, method: str, exchange: Exchange, seconds: float) -> None:
        key = (method, exchange.route, exchange.status)
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
            status=exchange.status,
            code=exchange.code,
            ms=round(seconds * 1000, 1),
        )

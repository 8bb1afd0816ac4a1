"""A page of metrics on a port of its own, for processes that have no other."""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

HEADERS = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]


def metrics_page(read: Callable[[], Awaitable[bytes]]) -> ASGIApp:
    """Answer `/metrics` with what `read` gives, and nothing else."""

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        found = scope["path"] == "/metrics"
        body = await read() if found else b""
        status = 200 if found else 404
        await send({"type": "http.response.start", "status": status, "headers": HEADERS})
        await send({"type": "http.response.body", "body": body})

    return answer

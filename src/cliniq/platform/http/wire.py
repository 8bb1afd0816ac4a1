"""WebSockets whose frames can go to the wire as they are: encoded once, however many hear them.

uvicorn writes each frame anew for each socket, and by a task; in a room of thousands that is most
of what a frame costs. See docs/decisions/0028.
"""

import asyncio
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any, Protocol, cast

from starlette.types import Scope
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

_KEY = "cliniq.wire"


class Wire(Protocol):
    """The way to one client."""

    def push(self, encoded: bytes) -> bool:
        """Write a whole frame now, or say that it cannot be: the client is slow, or has gone."""


class Door(HttpToolsProtocol):
    """uvicorn's HTTP, which lets go of its parser in the end: they hold each other.

    What holds itself waits for the collector, which stands still for half a second to look at ten
    thousand sockets.
    """

    @override
    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        self._let_go()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._let_go()

    def _let_go(self) -> None:
        self.parser = None  # type: ignore[assignment]


class LiveSocket(WebSocketsSansIOProtocol):
    """uvicorn's socket, which hands the application its wire, and holds no more than it needs.

    What uvicorn itself has to say it writes at once, so the order is that of the calls. Frames are
    whole and not compressed.
    """

    @override
    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            # The task that will read it begins after this has returned.
            cast(MutableMapping[str, Any], self.scope)[_KEY] = self

    @override
    def start_keepalive(self) -> None:
        """Begin, now that the handshake is over and said."""
        super().start_keepalive()
        del self.request, self.response

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.conn.parser.close()

    @override
    def on_task_complete(self, task: "asyncio.Task[None]") -> None:
        super().on_task_complete(task)
        cast(MutableMapping[str, Any], self.scope).clear()

    def push(self, encoded: bytes) -> bool:
        """Write a whole frame now, or say that it cannot be."""
        if (
            self.close_sent
            or not self.handshake_complete
            or not self.writable.is_set()
            or self.transport.is_closing()
        ):
            return False
        self.transport.write(encoded)
        return True


def take_wire(scope: Scope) -> Wire | None:
    """Take the wire out of a socket's scope; none where another server serves it."""
    wire: Wire | None = scope.pop(_KEY, None)
    return wire

"""WebSockets whose frames can go to the wire as they are: encoded once, however many hear them.

uvicorn writes each frame anew for each socket, and by a task; in a room of thousands that is most
of what a frame costs. See docs/decisions/0028.
"""

from collections.abc import MutableMapping
from typing import Any, Protocol, cast

from starlette.types import Scope
from typing_extensions import override
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

_KEY = "cliniq.wire"


class Wire(Protocol):
    """The way to one client."""

    def push(self, encoded: bytes) -> bool:
        """Write a whole frame now, or say that it cannot be: the client is slow, or has gone."""


class LiveSocket(WebSocketsSansIOProtocol):
    """uvicorn's socket, which hands the application its wire.

    What uvicorn itself has to say it writes at once, so the order is that of the calls. Frames are
    whole and not compressed.
    """

    @override
    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:  # noqa: PLR2004 - its task begins after this returns
            cast(MutableMapping[str, Any], self.scope)[_KEY] = self

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

"""What one request carries through all layers: its id, and the route that served it."""

import re
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from uuid import uuid4

from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

Sequel: TypeAlias = Callable[[Receive, Send], Awaitable[None]]

_KEY = "cliniq.exchange"
_SOUND = re.compile(rb"[A-Za-z0-9._-]{8,64}\Z")


class Exchange:
    """Made once a request; layers below fill in what they learn."""

    __slots__ = ("code", "counted", "request_id", "route", "sequel", "status")

    def __init__(self, asked: bytes | None) -> None:
        sound = asked is not None and _SOUND.match(asked)
        self.request_id = asked.decode() if sound and asked else uuid4().hex
        self.route = "unrouted"
        self.code = ""
        self.counted = False  # against the limits
        self.status = 0  # until an answer begins
        self.sequel: Sequel | None = None  # goes on with a socket once its route has let go of it


def put_exchange(scope: Scope, exchange: Exchange) -> None:
    """Lay it down for the layers below."""
    scope[_KEY] = exchange


def exchange_of(connection: HTTPConnection) -> Exchange:
    """Find it, from any layer."""
    found: Exchange = connection.scope[_KEY]
    return found

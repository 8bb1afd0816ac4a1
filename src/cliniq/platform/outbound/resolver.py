"""Names to addresses, in threads of their own: the loop's serve the database and files."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from threading import Thread
from typing import TypeAlias

from cliniq.platform.outbound.addresses import Address

Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[Address]]]

MOST_LOOKUPS = 16


class NoSuchName(Exception):
    """The name does not exist."""


class SystemResolver:
    """Asks the system. A name that is being asked for already is waited for, not asked again.

    Bounds: `MOST_LOOKUPS` names at once, since a thread whose name server is silent is only gone
    when the system gives up.
    Raises: NoSuchName; OSError where the name servers do not answer.
    """

    def __init__(self) -> None:
        self._underway: dict[str, asyncio.Future[list[Address]]] = {}

    async def __call__(self, host: str) -> Sequence[Address]:
        """Find all addresses of a host."""
        lookup = self._underway.get(host)
        if lookup is None:
            if len(self._underway) >= MOST_LOOKUPS:
                raise OSError("too many names are being asked for")
            lookup = self._underway[host] = asyncio.get_running_loop().create_future()
            lookup.add_done_callback(lambda done: self._forget(host, done))
            Thread(target=_ask, args=(host, lookup), daemon=True).start()
        return await asyncio.shield(lookup)

    def _forget(self, host: str, done: asyncio.Future[list[Address]]) -> None:
        self._underway.pop(host, None)
        if not done.cancelled():
            done.exception()  # whoever waited may be gone


def _ask(host: str, lookup: asyncio.Future[list[Address]]) -> None:
    found: list[Address] | Exception
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        found = list(dict.fromkeys(ip_address(answer[4][0]) for answer in answers))
    except socket.gaierror as error:
        gone = error.errno in {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)}
        found = NoSuchName() if gone else OSError("no name server answers")
    except (OSError, ValueError):
        found = OSError("no name server answers")
    with suppress(RuntimeError):  # the loop is closed, and nobody waits
        lookup.get_loop().call_soon_threadsafe(_tell, lookup, found)


def _tell(lookup: asyncio.Future[list[Address]], found: list[Address] | Exception) -> None:
    if lookup.done():
        return
    if isinstance(found, Exception):
        lookup.set_exception(found)
    else:
        lookup.set_result(found)

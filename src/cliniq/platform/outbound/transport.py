"""The guarded transport: a name is resolved once, all its addresses are checked, one is called.

TLS and the Host header go by the name; connections are kept by the name too, so that two names of
one address never share one.
"""

import asyncio
import ssl
from collections.abc import Collection, Iterable

import httpcore2
import httpx2
from typing_extensions import override

from cliniq.platform.outbound.addresses import Address, Network, ensure_all_public, literal
from cliniq.platform.outbound.refusals import OutboundAddressRefused
from cliniq.platform.outbound.resolver import NoSuchName, Resolve

MOST_ADDRESSES = 4  # are tried in turn, each for its share of the time to connect
MOST_CONNECTIONS = 512
MOST_KEPT = 64
KEPT_SECONDS = 30


class GuardedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to checked addresses only; nothing else opens a connection of `Outbound`."""

    def __init__(self, resolve: Resolve, allowed: Collection[Network]) -> None:
        self._resolve = resolve
        self._allowed = allowed
        self._wire = httpcore2.AnyIOBackend()

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve, check and connect, all within `timeout`.

        Raises: OUTBOUND_ADDRESS_REFUSED 409.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + (timeout or MOST_ADDRESSES)
        addresses = await self._checked(host, until - loop.time())
        failure: Exception = httpcore2.ConnectTimeout()
        for tried, address in enumerate(addresses):
            share = (until - loop.time()) / (len(addresses) - tried)
            if share <= 0:
                break
            try:
                return await self._wire.connect_tcp(
                    str(address), port, share, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    @override
    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: no provider is behind a file."""
        raise OutboundAddressRefused("scheme")

    @override
    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def _checked(self, host: str, seconds: float) -> list[Address]:
        address = literal(host)
        found = [address] if address else await self._look_up(host, seconds)
        ensure_all_public(found, self._allowed)
        return found[:MOST_ADDRESSES]

    async def _look_up(self, host: str, seconds: float) -> list[Address]:
        try:
            async with asyncio.timeout(seconds):
                return list(await self._resolve(host))
        except NoSuchName:
            raise OutboundAddressRefused("not_public") from None
        except TimeoutError:
            raise httpcore2.ConnectTimeout from None
        except OSError:
            raise httpcore2.ConnectError from None


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """httpx2's transport on a guarded network, without proxies: TLS trusts what the system does."""

    def __init__(
        self, resolve: Resolve, allowed: Collection[Network], trust: ssl.SSLContext | None
    ) -> None:
        context = trust or httpx2.create_ssl_context()
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=MOST_CONNECTIONS,
            max_keepalive_connections=MOST_KEPT,
            keepalive_expiry=KEPT_SECONDS,
            network_backend=GuardedNetwork(resolve, allowed),
        )

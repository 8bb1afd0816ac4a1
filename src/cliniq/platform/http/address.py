"""Whose address a request comes from, when proxies stand between."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias

from starlette.types import Scope

Address: TypeAlias = IPv4Address | IPv6Address

ONE_HOME_BITS = 64  # of IPv6: what one subscriber is given, and may fill with addresses


class Proxies:
    """The proxies whose `X-Forwarded-For` is believed: addresses and networks, by comma."""

    def __init__(self, named: str | None = None) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(each.strip(), strict=False) for each in (named or "").split(",") if each
        ]

    def settle(self, scope: Scope) -> None:
        """Put the client's own address into `client`, in place of a trusted proxy's.

        Each proxy writes at the right who spoke to it. So the client is the right-most that is no
        proxy of ours; what stands further left, anybody can have written.
        """
        if not self._networks or not scope.get("client"):
            return
        peer = read_address(scope["client"][0])
        if peer is None or not self._trusts(peer):
            return
        said = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        scope["client"] = (str(self._client(peer, said.decode("latin-1").split(","))), 0)

    def _client(self, peer: Address, said: Iterable[str]) -> Address:
        client = peer
        for each in reversed([*said]):
            found = read_address(each)
            if found is None:  # beyond what is no address, nothing can be believed
                break
            client = found
            if not self._trusts(found):
                break
        return client

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def read_address(text: str) -> Address | None:
    """Read an address, with or without brackets and port; nothing where it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


@lru_cache(maxsize=65536)
def counted_as(host: str) -> str:
    """Say as what an address is counted: itself, or of IPv6 the network of one home."""
    found = read_address(host)
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, ONE_HOME_BITS), strict=False))
    return str(found) if found else ""

"""Which addresses may be called from here: public ones, spelt plainly. Nothing is looked up."""

import re
from collections.abc import Collection, Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias

from cliniq.platform.outbound.refusals import OutboundAddressRefused

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# Source: IANA's special-purpose registries, and what clouds serve on public numbers.
_CLOSED_4 = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's own services, at every guest
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast and what is reserved above it
    )
)
# Whatever else carries an IPv4 address (mapped, compatible, NAT64) stands outside this one.
_OPEN_6 = IPv6Network("2000::/3")
_CLOSED_6 = tuple(
    IPv6Network(each)
    for each in (
        "2001::/23",  # Teredo, ORCHID, benchmarks
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
_ISATAP = (0x00005EFE, 0x02005EFE)  # the upper half of an interface that carries an IPv4 address

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_LONGEST_NAME = 253


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the open internet, by our list and by Python's."""
    if not address.is_global or address.is_multicast:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_4)
    return (
        address in _OPEN_6
        and address.scope_id is None
        and not any(address in network for network in _CLOSED_6)
        and int(address) >> 32 & 0xFFFFFFFF not in _ISATAP
    )


def ensure_public(address: Address, allowed: Collection[Network] = ()) -> None:
    """Refuse an address that is not of the open internet, unless its network is allowed.

    Raises: OUTBOUND_ADDRESS_REFUSED 409.
    """
    if not is_public(address) and not any(address in network for network in allowed):
        raise OutboundAddressRefused("not_public")


def ensure_all_public(addresses: Iterable[Address], allowed: Collection[Network] = ()) -> None:
    """Refuse a name of which even one address is not public, or that has none.

    Raises: OUTBOUND_ADDRESS_REFUSED 409.
    """
    found = list(addresses)
    for address in found:
        ensure_public(address, allowed)
    if not found:
        raise OutboundAddressRefused("not_public")


def ensure_plain(host: str) -> None:
    """Refuse a host that is neither a plain name nor an address in its one canonical form.

    So no parser may read it as another than we do: `127.1`, `0x7f000001`, `2130706433`, a zone, a
    trailing dot, a full-width digit, a name without a dot.
    Raises: OUTBOUND_ADDRESS_REFUSED 409.
    """
    if literal(host) is None and not _is_name(host):
        raise OutboundAddressRefused("spelling")


def literal(host: str) -> Address | None:
    """Read an address in its canonical form; nothing where it is none."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return address if str(address) == host.lower() and "%" not in host else None


def _is_name(host: str) -> bool:
    return (
        host.isascii()
        and len(host) <= _LONGEST_NAME
        and _NAME.fullmatch(host) is not None
        and _NUMBER.fullmatch(host.rpartition(".")[2]) is None
    )


def networks(*named: str) -> tuple[Network, ...]:
    """Read networks, to be allowed."""
    return tuple(map(ip_network, named))

"""Whose address it is: the right-most that no proxy of ours has, and nobody's word for it."""

from typing import Any

import pytest

from cliniq.platform.http.address import Proxies, counted_as, read_address


def client_of(proxies: str | None, peer: str | None, *forwarded: str) -> str | None:
    """Say whose address a request has, that came from a peer with these headers."""
    scope: dict[str, Any] = {
        "client": (peer, 40000) if peer else None,
        "headers": [(b"x-forwarded-for", each.encode("latin-1")) for each in forwarded],
    }
    Proxies(proxies).settle(scope)
    return scope["client"][0] if scope["client"] else None


@pytest.mark.parametrize("named", [None, "", "10.0.0.1", "10.0.0.0/8, fd00::/8"])
def test_whoever_is_no_proxy_of_ours_is_not_believed(named: str | None) -> None:
    assert client_of(named, "203.0.113.9", "198.51.100.1") == "203.0.113.9"
    assert client_of(named, "203.0.113.9", "10.0.0.1") == "203.0.113.9"


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["198.51.100.66, 203.0.113.9"], "203.0.113.9"),  # the left one is whatever they wrote
        (["198.51.100.66", "203.0.113.9"], "203.0.113.9"),
        (["198.51.100.66, 203.0.113.9, 10.2.0.1"], "203.0.113.9"),
        (["198.51.100.66, 203.0.113.9,10.2.0.1 ", " 10.3.0.1"], "203.0.113.9"),
        (["10.9.9.9, 203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9:51234"], "203.0.113.9"),
        (["[2001:db8::7]:51234"], "2001:db8::7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["10.4.0.1, 10.2.0.1"], "10.4.0.1"),  # a proxy that asks for itself
        (["203.0.113.9, unknown"], "10.0.0.1"),
        (["203.0.113.9, \xff"], "10.0.0.1"),
        (["203.0.113.9, "], "10.0.0.1"),
        (["203.0.113.9, nonsense, 10.2.0.1"], "10.2.0.1"),
        ([""], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
)
def test_behind_proxies_of_ours_the_right_most_that_is_none_is_the_client(
    said: list[str], client: str
) -> None:
    assert client_of("10.0.0.0/8", "10.0.0.1", *said) == client


@pytest.mark.parametrize("named", ["10.0.0.1", "10.0.0.1/8", " 192.0.2.0/24 , 10.0.0.0/8 "])
def test_proxies_are_addresses_or_networks_written_as_people_write_them(named: str) -> None:
    assert client_of(named, "10.0.0.1", "203.0.113.9") == "203.0.113.9"


@pytest.mark.parametrize("peer", ["::ffff:10.0.0.1", "fd00::1"])
def test_proxy_may_speak_ipv6(peer: str) -> None:
    assert client_of("10.0.0.0/8,fd00::/8", peer, "203.0.113.9") == "203.0.113.9"


def test_peer_without_an_address_keeps_none() -> None:
    assert client_of("10.0.0.1", None, "203.0.113.9") is None
    assert client_of("10.0.0.1", "testclient", "203.0.113.9") == "testclient"


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_address_is_counted_as_one_subscriber(host: str, counted: str) -> None:
    assert counted_as(host) == counted


def test_what_is_no_address_is_none() -> None:
    for text in ("", "1.2.3", "1.2.3.4.5", "[::1", "::1]", "1:2", "a" * 100_000, "\x00"):
        assert read_address(text) is None or text == "[::1"

"""Which addresses may be called: public ones, by IANA's lists and Python's, and spelt one way."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliniq.kernel.problem import Problem
from cliniq.platform.outbound.addresses import (
    ensure_all_public,
    ensure_plain,
    ensure_public,
    is_public,
    literal,
    networks,
)
from cliniq.platform.outbound.provider import Provider
from cliniq.platform.outbound.refusals import OutboundAddressRefused
from cliniq.platform.outbound.soundness import read_url

CLOSED = [
    *[
        "0.0.0.0",  # noqa: S104 - nobody binds to it
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.254",
    ],
    *["100.100.100.200", "127.0.0.1", "127.1.2.3", "168.63.129.16", "169.254.169.254"],
    *["172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1"],
    *["198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.1.1.1"],
    *["240.0.0.1", "255.255.255.255"],
    *["::", "::1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::8.8.8.8", "::7f00:1"],
    *["64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378::1", "2001:2::1"],
    *["2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1"],
    *["fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "2a00:1450::5efe:a00:1"],
    *["2a00:1450::200:5efe:a00:1", "2a00:1450:4001::1%1"],
]
OPEN = ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"]
OPEN += ["172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "223.255.255.255"]
OPEN += ["2001:4860:4860::8888", "2606:4700::1111", "2a00:1450:4001:81b::200e"]


@pytest.mark.parametrize("address", CLOSED)
def test_address_of_no_open_network_is_refused(address: str) -> None:
    with pytest.raises(OutboundAddressRefused) as refused:
        ensure_public(ip_address(address))
    assert refused.value.facts == {"reason": "not_public"}


@pytest.mark.parametrize("address", OPEN)
def test_address_of_the_open_internet_is_taken(address: str) -> None:
    ensure_public(ip_address(address))


@given(st.ip_addresses())
def test_nothing_that_python_calls_closed_is_open(address: IPv4Address | IPv6Address) -> None:
    closed = (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or not address.is_global
    )
    assert not (closed and is_public(address))


@given(st.ip_addresses(v=4))
def test_no_ipv6_address_carries_one_of_ipv4_past_the_list(inner: IPv4Address) -> None:
    number = int(inner)
    for carrier in (
        0xFFFF << 32 | number,  # mapped
        number,  # compatible
        0x64FF9B << 96 | number,  # NAT64
        0x2002 << 112 | number << 80,  # 6to4
        0x20010000 << 96 | (number ^ 0xFFFFFFFF),  # Teredo
        0x2A001450 << 96 | 0x00005EFE << 32 | number,  # ISATAP
    ):
        assert not is_public(IPv6Address(carrier))


@given(st.ip_addresses(v=4))
def test_list_for_ipv4_says_no_more_than_python_and_the_named_exceptions(
    address: IPv4Address,
) -> None:
    also = networks(  # the second: Pythons disagree about single addresses in it
        "192.0.0.0/24",
        "168.63.129.16/32",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.175.48.0/24",
    )
    extra = any(address in network for network in also) or address.is_multicast
    assert is_public(address) == (address.is_global and not extra)


def test_one_closed_address_refuses_the_name_and_so_does_none() -> None:
    public, private = ip_address("1.1.1.1"), ip_address("10.0.0.1")
    ensure_all_public([public])
    for found in ([public, private], [private], []):
        with pytest.raises(OutboundAddressRefused):
            ensure_all_public(found)


def test_allowed_network_is_allowed_and_no_other() -> None:
    loopback = networks("127.0.0.0/8")
    ensure_public(ip_address("127.0.0.1"), loopback)
    for other in ("::1", "::ffff:127.0.0.1", "10.0.0.1"):
        with pytest.raises(OutboundAddressRefused):
            ensure_public(ip_address(other), loopback)


ODD_HOSTS = [
    *["127.1", "127.0.1", "0x7f000001", "0x7f.0.0.1", "2130706433", "017700000001", "0177.0.0.1"],
    *[
        "127.0.0.01",
        "127.0.0.1.",
        "1.1.1.1.",
        "\uff11\uff12\uff17.0.0.1",
        "127\u30020\u30020\u30021",
        "①②⑦.0.0.1",
    ],
    *["localhost", "intranet", "example.com.", ".example.com", "example..com", "-a.com", "a-.com"],
    *["a_b.com", "a b.com", "exämple.com", "example.com%00", "%31.1.1.1", "fe80::1%eth0"],
    *["2001:4860:4860:0::8888", "[::1]", "a.0x7f", "a.1", "1.2.3", "1.2.3.4.5", "256.1.1.1"],
    *["", "a" * 64 + ".com", "a." * 130 + "com", "example.com\n", "example.com\r\nx"],
]
PLAIN_HOSTS = ["example.com", "EXAMPLE.com", "a.b-c.d1", "1.1.1.1", "2001:4860:4860::8888"]
PLAIN_HOSTS += ["xn--bcher-kva.example", "3com.com", "a" * 63 + ".com", "1.2.3.4.in-addr.arpa"]


@pytest.mark.parametrize("host", ODD_HOSTS)
def test_oddly_spelt_host_is_refused(host: str) -> None:
    with pytest.raises(OutboundAddressRefused) as refused:
        ensure_plain(host)
    assert refused.value.facts == {"reason": "spelling"}


@pytest.mark.parametrize("host", PLAIN_HOSTS)
def test_plain_host_is_taken(host: str) -> None:
    ensure_plain(host)


@given(st.text(max_size=30) | st.ip_addresses().map(str))
def test_plain_host_is_a_canonical_address_or_no_number_at_all(host: str) -> None:
    try:
        ensure_plain(host)
    except OutboundAddressRefused:
        return
    address = literal(host)
    if address is not None:
        assert str(address) == host.lower()
    else:
        assert host.isascii()
        assert any(each.isalpha() for each in host.rpartition(".")[2])


PROVIDER = Provider("acme")
ODD_URLS = {
    "http://example.com/": "scheme",
    "ftp://example.com/": "scheme",
    "file:///etc/passwd": "scheme",
    "gopher://example.com/": "scheme",
    "javascript:alert(1)": "scheme",
    "//example.com/": "scheme",
    "example.com": "scheme",
    "": "spelling",
    "https://": "spelling",
    "https:///x": "spelling",
    "https://user@example.com/": "spelling",
    "https://user:pass@example.com/": "spelling",
    "https://@example.com/": "spelling",
    "https://example.com@10.0.0.1/": "spelling",
    "https://10.0.0.1#@example.com/": "spelling",
    "https://10.0.0.1\\@example.com/": "spelling",
    "https://example.com\\.evil.com/": "spelling",
    "https://example.com /": "spelling",
    "https://exam\tple.com/": "spelling",
    "https://example.com/\r\nX: y": "spelling",
    "https://example.com/\x00": "spelling",
    "https://example.com/ü": "spelling",
    "https://exämple.com/": "spelling",
    "https://\uff11\uff12\uff17.0.0.1/": "spelling",
    "https://127.1/": "spelling",
    "https://0x7f000001/": "spelling",
    "https://2130706433/": "spelling",
    "https://%31%32%37.0.0.1/": "spelling",
    "https://[::1/": "spelling",
    "https://[fe80::1%25eth0]/": "spelling",
    "https://[0:0:0:0:0:0:0:1]/": "spelling",
    "https://example.com./": "spelling",
    "https://example.com:/": "spelling",
    "https://example.com:0443/": "spelling",
    "https://example.com:443:443/": "spelling",
    "https://example.com:99999/": "port",
    "https://example.com/#x": "spelling",
    "https://example.com/" + "a" * 4000: "spelling",
    "https://example.com:22/": "port",
    "https://example.com:8443/": "port",
    "https://1.1.1.1:80/": "port",
}


@pytest.mark.parametrize(("url", "reason"), ODD_URLS.items())
def test_odd_url_is_refused_with_the_rule_it_breaks(url: str, reason: str) -> None:
    with pytest.raises(OutboundAddressRefused) as refused:
        read_url(url, PROVIDER)
    assert refused.value.facts == {"reason": reason}


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/a/b?c=d&e=%20",
        "https://EXAMPLE.com:443/",
        "https://1.1.1.1/",
        "https://[2001:4860:4860::8888]:443/x",
        "https://xn--bcher-kva.example/",
    ],
)
def test_plain_url_is_taken(url: str) -> None:
    assert read_url(url, PROVIDER).scheme == "https"


@given(st.text(max_size=40).map("https://{}".format) | st.text(max_size=40))
def test_url_is_taken_or_refused_and_never_breaks(url: str) -> None:
    try:
        read = read_url(url, PROVIDER)
    except Problem:
        return
    assert isinstance(read, httpx2.URL)
    ensure_plain(read.raw_host.decode())

"""Names: resolved once, every address checked, the checked one called; again for each hop."""

import asyncio
import socket
import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cliniq.platform.clock import utc_now
from cliniq.platform.outbound.provider import Provider, Request
from cliniq.platform.outbound.refusals import (
    OutboundAddressRefused,
    ProviderAnswerUnusable,
    ProviderUnavailable,
)
from cliniq.platform.outbound.resolver import MOST_LOOKUPS, NoSuchName, SystemResolver
from tests.platform.outbound.servers import calling, reply, serving
from tests.platform.outbound.test_calls import CANARY, CLINIC, provider_at

HOST = "clinic.example"


async def test_name_is_resolved_once_and_the_checked_address_is_called() -> None:
    answers = {HOST: [["127.0.0.1"], ["127.0.0.2"]]}
    async with serving() as server, calling(["127.0.0.1/32"], answers) as caller:
        request = Request("GET", server.url(host=HOST))
        for _ in range(3):
            answer = await caller.outbound.call(CLINIC, provider_at(server), request)
            assert answer.body == b"well"
    assert server.heard[0].headers["host"] == f"{HOST}:{server.port}"
    assert server.connected == 1


async def test_name_that_turns_to_another_address_later_is_checked_again() -> None:
    """DNS rebinding: what was checked is what is called, and each new connection is a new check."""
    answers = {HOST: [["127.0.0.1"], ["127.0.0.2"]]}
    first = reply(200, b"well", connection="close")
    async with serving(first) as server, calling(["127.0.0.1/32"], answers) as caller:
        request = Request("GET", server.url(host=HOST))
        assert (await caller.outbound.call(CLINIC, provider_at(server), request)).status == 200
        with pytest.raises(OutboundAddressRefused):
            await caller.outbound.call(CLINIC, provider_at(server), request)
    assert server.connected == 1


@pytest.mark.parametrize(
    "found",
    [
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["127.0.0.1", "10.0.0.1"],
        ["10.0.0.1", "127.0.0.1"],
        ["127.0.0.1", "::1"],
        [],
    ],
)
async def test_one_address_that_is_not_public_refuses_the_name(found: list[str]) -> None:
    async with serving() as server, calling(["127.0.0.1/32"], {HOST: [found]}) as caller:
        with pytest.raises(OutboundAddressRefused) as refused:
            await caller.outbound.call(
                CLINIC, provider_at(server), Request("GET", server.url(host=HOST))
            )
    assert refused.value.facts == {"reason": "not_public"}
    assert server.connected == 0


async def test_name_that_does_not_exist_is_refused_as_one_that_is_ours() -> None:
    provider = Provider("acme")
    async with calling([], {HOST: [["10.0.0.1"]]}) as caller:
        refusals = []
        for host in (HOST, "nowhere.example"):
            with pytest.raises(OutboundAddressRefused) as refused:
                await caller.outbound.call(CLINIC, provider, Request("GET", f"https://{host}/"))
            refusals.append((refused.value.code, refused.value.facts))
    assert refusals[0] == refusals[1]


async def test_without_an_allowance_loopback_is_refused_however_it_is_named() -> None:
    async with serving() as server, calling([], {HOST: [["127.0.0.1"]]}) as caller:
        for host in ("127.0.0.1", HOST):
            with pytest.raises(OutboundAddressRefused):
                await caller.outbound.call(
                    CLINIC, provider_at(server), Request("GET", server.url(host=host))
                )
    assert server.connected == 0


async def test_address_that_does_not_answer_gives_way_to_the_next() -> None:
    async with serving() as server, calling(names={HOST: [["127.9.9.9", "127.0.0.1"]]}) as caller:
        answer = await caller.outbound.call(
            CLINIC, provider_at(server), Request("GET", server.url(host=HOST))
        )
    assert answer.status == 200


async def test_refused_address_tells_nothing_of_the_provider() -> None:
    async with calling([], {HOST: [["10.0.0.1"]]}) as caller:
        for _ in range(20):
            with pytest.raises(OutboundAddressRefused):
                await caller.outbound.call(
                    CLINIC, Provider("acme"), Request("GET", f"https://{HOST}/")
                )
        assert caller.counted("cliniq_outbound_breakers", provider="acme", state="closed") == 1


# --- hops -----------------------------------------------------------------------------------------


async def test_hop_is_not_followed_by_default() -> None:
    async with serving() as there, serving() as here, calling() as caller:
        here.replies[:] = [reply(302, location=there.url())]
        with pytest.raises(ProviderAnswerUnusable):
            await caller.outbound.call(CLINIC, provider_at(here, there), Request("GET", here.url()))
    assert there.connected == 0


async def test_hops_are_followed_and_secrets_stay_behind_at_another_place() -> None:
    async with serving(reply(200, b"there")) as there, serving(reply(200)) as here:
        here.replies[:] = [reply(307, location="/b?c=d"), reply(302, location=there.url("/x"))]
        request = Request("GET", here.url("/a"), {"Authorization": CANARY, "X-Api-Key": CANARY})
        async with calling() as caller:
            answer = await caller.outbound.call(CLINIC, provider_at(here, there, hops=2), request)
            assert answer.body == b"there"
            here.replies[:] = [reply(302, location="/round")]
            with pytest.raises(ProviderAnswerUnusable):
                await caller.outbound.call(CLINIC, provider_at(here, there, hops=2), request)
    assert [heard.path for heard in here.heard] == ["/a", "/b?c=d", "/a", "/round", "/round"]
    assert here.heard[1].headers["x-api-key"] == CANARY
    assert CANARY not in str(there.heard)


@pytest.mark.parametrize(
    "location",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.2:{port}/",
        "//127.0.0.2:{port}/",
        "http://[::1]:{port}/",
        "http://inner.example:{port}/",
        "http://127.0.0.1:22/",
        "http://127.1:{port}/",
        "http://user@127.0.0.1:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "javascript:x",
    ],
)
async def test_hop_to_where_we_may_not_go_is_refused(location: str) -> None:
    answers = {"inner.example": [["127.0.0.2"]]}
    async with serving(reply(200)) as here, calling(["127.0.0.1/32"], answers) as caller:
        here.replies[:] = [reply(302, location=location.format(port=here.port))]
        with pytest.raises(OutboundAddressRefused):
            await caller.outbound.call(
                CLINIC, provider_at(here, hops=3), Request("GET", here.url())
            )
    assert len(here.heard) == 1


async def test_post_is_never_sent_on() -> None:
    async with serving(reply(307, location="/again")) as here, calling() as caller:
        with pytest.raises(ProviderAnswerUnusable):
            await caller.outbound.call(
                CLINIC, provider_at(here, hops=3), Request("POST", here.url(), content=b"x")
            )
    assert len(here.heard) == 1


# --- TLS ------------------------------------------------------------------------------------------


class Authority:
    """One that signs for names, for the tests to trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self.certificate = self._sign("tests", self._key, is_authority=True)
        self.trust = ssl.create_default_context(cadata=self._pem(self.certificate).decode())

    def server(self, *hosts: str) -> ssl.SSLContext:
        """What a server of these names needs."""
        key = ec.generate_private_key(ec.SECP256R1())
        file = self._folder / f"{hosts[0]}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file.write_bytes(secret + self._pem(self._sign(hosts[0], key, *hosts)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _pem(self, certificate: x509.Certificate) -> bytes:
        return certificate.public_bytes(serialization.Encoding.PEM)

    def _sign(self, name: str, key: Any, *hosts: str, is_authority: bool = False) -> Any:
        named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = (
            x509.CertificateBuilder()
            .subject_name(named)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(utc_now() - timedelta(days=1))
            .not_valid_after(utc_now() + timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        if hosts:
            alternatives = [x509.DNSName(host) for host in hosts]
            made = made.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return made.sign(self._key, hashes.SHA256())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_tls_goes_by_the_name_although_an_address_is_called(authority: Authority) -> None:
    asked: list[str | None] = []
    trust = authority.server("a.example", "b.example")
    trust.sni_callback = lambda _socket, name, _context: asked.append(name)
    both = {name: [["127.0.0.1"]] for name in ("a.example", "b.example")}
    async with serving(trust=trust) as server, calling(names=both, trust=authority.trust) as caller:
        provider = Provider("acme", ports=frozenset({server.port}))
        for host in ("a.example", "b.example", "a.example"):
            url = f"https://{host}:{server.port}/"
            assert (await caller.outbound.call(CLINIC, provider, Request("GET", url))).body
    assert asked == ["a.example", "b.example"]
    assert server.connected == 2, "two names of one address never share a connection"


@pytest.mark.parametrize("case", ["another's name", "nobody's word", "no TLS at all"])
async def test_server_that_cannot_prove_its_name_gets_nothing(
    authority: Authority, tmp_path: Path, case: str
) -> None:
    signed = {
        "another's name": authority.server("other.example"),
        "nobody's word": Authority(tmp_path).server(HOST),
        "no TLS at all": None,
    }[case]
    async with (
        serving(trust=signed) as server,
        calling(names={HOST: [["127.0.0.1"]]}, trust=authority.trust) as caller,
    ):
        provider = Provider("acme", ports=frozenset({server.port}), attempts=1, connect_seconds=0.5)
        request = Request("POST", f"https://{HOST}:{server.port}/", {"X-Key": CANARY})
        with pytest.raises(ProviderUnavailable) as refused:
            await caller.outbound.call(CLINIC, provider, request)
        assert not refused.value.may_have_arrived
    assert server.heard == []


# --- the system's names ---------------------------------------------------------------------------


def answer_of(*addresses: str) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in addresses]


async def test_system_is_asked_once_for_a_name_that_many_want(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def look_up(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        return answer_of("1.1.1.1", "1.1.1.1", "8.8.8.8")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolve = SystemResolver()
    found = await asyncio.gather(*(resolve(HOST) for _ in range(50)))
    assert asked == [HOST]
    assert set(map(tuple, found)) == {(ip_address("1.1.1.1"), ip_address("8.8.8.8"))}


async def test_silent_name_servers_take_no_more_than_their_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, silent = asyncio.get_running_loop(), asyncio.Event()

    def look_up(_host: str, *_: object, **__: object) -> list[Any]:
        asyncio.run_coroutine_threadsafe(silent.wait(), loop).result()
        return answer_of("1.1.1.1")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolve = SystemResolver()
    waiting = [asyncio.create_task(resolve(f"{each}.example")) for each in range(MOST_LOOKUPS)]
    await asyncio.sleep(0.01)
    with pytest.raises(OSError, match="too many"):
        await resolve("one-more.example")
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    silent.set()
    assert all(await asyncio.gather(*waiting[1:]))
    assert await resolve("one-more.example")


@pytest.mark.parametrize(
    ("errno", "kind"), [(socket.EAI_NONAME, NoSuchName), (socket.EAI_AGAIN, OSError)]
)
async def test_name_that_is_not_there_is_told_from_servers_that_do_not_answer(
    monkeypatch: pytest.MonkeyPatch, errno: int, kind: type[Exception]
) -> None:
    def look_up(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(errno, "no")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(kind):
        await SystemResolver()(HOST)


async def test_loopback_has_a_name_that_the_system_knows() -> None:
    assert ip_address("127.0.0.1") in await SystemResolver()("localhost")


async def test_names_that_nobody_resolves_count_against_the_provider() -> None:
    async def silent(_host: str) -> list[Any]:
        await asyncio.sleep(60)
        return []

    async with calling() as caller:
        caller.outbound._transport._pool._network_backend._resolve = silent  # type: ignore[attr-defined]  # noqa: SLF001
        provider = Provider("acme", connect_seconds=0.02, attempts=1)
        with pytest.raises(ProviderUnavailable) as refused:
            await caller.outbound.call(CLINIC, provider, Request("GET", f"https://{HOST}/"))
        assert not refused.value.may_have_arrived

"""Object storage: one port, and behind it memory, a folder and two S3 servers."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.problem import DependencyUnavailable, PayloadTooLarge
from cliniq.platform import storage as storing
from cliniq.platform.backends import Backends, read_storage_address
from cliniq.platform.settings import SettingsRefused, load_settings
from cliniq.platform.signing import Keyring
from cliniq.platform.storage import Name, Storage, Stored, name_of, new_name, open_storage
from tests.s3_servers import S3Server, moto, rclone
from tests.support import SECRET, Hands

MEGABYTE = 1 << 20
HOUR = timedelta(hours=1)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    with moto() as server:
        yield server


@pytest.fixture(scope="session")
def rclone_server() -> Iterator[S3Server]:
    with rclone() as server:
        yield server


@pytest.fixture(params=["moto", "rclone"])
def s3(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    return server


@dataclass
class Opened:
    """A storage, by its kind, with the wall clock that it reads."""

    kind: str
    storage: Storage
    hands: Hands


@pytest.fixture(params=["memory", "file", "moto", "rclone"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    hands = Hands()
    if request.param in {"memory", "file"}:
        url = "memory:" if request.param == "memory" else f"file:{tmp_path / 'objects'}"
        backends = Backends(storage_url=url)
    else:
        backends = request.getfixturevalue(f"{request.param}_server").backends
    return Opened(request.param, open_storage(backends, Keyring(SECRET), lambda: hands.wall), hands)


@pytest.fixture
def storage(opened: Opened) -> Storage:
    return opened.storage


def some_clinic() -> ClinicId:
    return ClinicId(new_id())


def with_key(url: str, key: str) -> Backends:
    return Backends(storage_url=url, storage_key_id=key, storage_secret=key)


# Objects


async def test_object_comes_back_as_it_was_laid_down(storage: Storage) -> None:
    name = new_name(some_clinic(), "letters", suffix="pdf")
    assert await storage.get(name) is None
    assert await storage.size_of(name) is None
    for body in (b"", b"one", b"\x00" * 100_000):
        await storage.put(name, body)
        assert await storage.get(name) == Stored(body, "application/pdf")
        assert await storage.size_of(name) == len(body)


async def test_deleted_object_is_gone_and_deleting_again_is_no_error(storage: Storage) -> None:
    clinic = some_clinic()
    names = [new_name(clinic, "letters", suffix="txt") for _ in range(3)]
    for name in names:
        await storage.put(name, b"x")
    await storage.delete(names[:2])
    await storage.delete(names[:2])
    assert [await storage.size_of(name) for name in names] == [None, None, 1]


async def test_list_has_one_clinic_s_objects_of_one_kind(storage: Storage) -> None:
    here, there = some_clinic(), some_clinic()
    assert await storage.list(here, "letters") == []
    ours = [new_name(here, "letters", suffix="txt") for _ in range(3)]
    others = [
        new_name(there, "letters", suffix="txt"),
        new_name(here, "lettersandmore", suffix="txt"),
        name_of(here, "letters", "x", suffix="txt", public=True),
    ]
    for name in ours + others:
        await storage.put(name, b"x")
    assert sorted(await storage.list(here, "letters")) == sorted(ours)
    assert await storage.list(here, "letters", public=True) == others[2:]
    with pytest.raises(ValueError, match="plain word"):
        await storage.list(here, "..")


async def pieces_of(*sizes: int) -> AsyncIterator[bytes]:
    for number, size in enumerate(sizes):
        yield bytes([number]) * size


async def test_big_object_goes_and_comes_in_pieces(opened: Opened) -> None:
    storage = opened.storage
    name = new_name(some_clinic(), "exports", suffix="zip")
    sizes = (5 * MEGABYTE, 6 * MEGABYTE, 1, 7 * MEGABYTE)
    assert await storage.put_stream(name, pieces_of(*sizes), most=20 * MEGABYTE) == sum(sizes)
    assert await storage.size_of(name) == sum(sizes)
    found = await storage.stream(name)
    assert found is not None
    assert found.size == sum(sizes)
    came = [piece async for piece in found.pieces]
    assert len(came) > 1 or opened.kind == "memory"
    assert b"".join(came) == b"".join(bytes([n]) * size for n, size in enumerate(sizes))
    assert await storage.stream(new_name(some_clinic(), "exports", suffix="zip")) is None
    with pytest.raises(PayloadTooLarge):
        await storage.get(name, most=MEGABYTE)


async def test_object_beyond_its_bound_is_not_laid_down(storage: Storage) -> None:
    name = new_name(some_clinic(), "exports", suffix="zip")
    with pytest.raises(PayloadTooLarge):
        await storage.put(name, b"12345", most=4)
    with pytest.raises(PayloadTooLarge):
        await storage.put_stream(name, pieces_of(6 * MEGABYTE, MEGABYTE), most=7 * MEGABYTE - 1)
    assert await storage.size_of(name) is None


async def test_upload_that_is_cut_off_leaves_nothing(storage: Storage) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b"x" * 9 * MEGABYTE
        raise ConnectionResetError

    name = new_name(some_clinic(), "exports", suffix="zip")
    with pytest.raises((DependencyUnavailable, ConnectionResetError)):
        await storage.put_stream(name, cut(), most=20 * MEGABYTE)
    assert await storage.size_of(name) is None


async def test_probe_of_a_storage_leaves_nothing(storage: Storage) -> None:
    clinic = some_clinic()
    await storage.ensure_writable(clinic)
    assert await storage.list(clinic, "probe") == []


# Names


WORDS = st.text(max_size=30) | st.sampled_from(
    [
        "..",
        ".",
        "a/../b",
        "/etc/passwd",
        "a\\b",
        "%2e%2e",
        "a\x00",
        "~",
        "-",
        "con",
        "A",
        "é",
        "a b",
    ]
)
CLINIC = some_clinic()


SUFFIXES = WORDS | st.sampled_from(sorted(storing.TYPES))


@given(st.lists(WORDS, min_size=1, max_size=4), SUFFIXES, st.booleans())
def test_no_name_leaves_its_clinic(parts: list[str], suffix: str, public: bool) -> None:
    try:
        name = name_of(CLINIC, *parts, suffix=suffix, public=public)
    except ValueError:
        return
    under = f"{'public/' if public else ''}clinics/{CLINIC}/"
    assert name.startswith(under)
    assert re.fullmatch(r"[a-z0-9_-]+(/[a-z0-9_-]+)*\.[a-z]+", name.removeprefix(under))
    assert Path("/objects", name).resolve().is_relative_to(Path("/objects", under))


@given(st.lists(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}\Z", fullmatch=True), min_size=1))
def test_plain_words_make_a_name(parts: list[str]) -> None:
    assert name_of(CLINIC, *parts, suffix="pdf") == f"clinics/{CLINIC}/{'/'.join(parts)}.pdf"


def test_name_needs_a_part_and_a_known_suffix() -> None:
    with pytest.raises(ValueError, match="suffix"):
        name_of(CLINIC, suffix="pdf")
    for suffix in ("html", "js", "", "svg ", "SVG", "exe"):
        with pytest.raises(ValueError, match="suffix"):
            name_of(CLINIC, "x", suffix=suffix)


async def test_swapped_clinics_have_other_objects(storage: Storage) -> None:
    here, there = some_clinic(), some_clinic()
    same = ("letters", str(new_id()))
    await storage.put(name_of(here, *same, suffix="txt"), b"ours")
    assert await storage.get(name_of(there, *same, suffix="txt")) is None


# Links


async def fetch(method: str, url: str, body: bytes = b"") -> httpx2.Response:
    async with httpx2.AsyncClient() as client:
        return await client.request(method, url, content=body)


async def test_signed_link_fetches_an_attachment_and_nothing_else(s3: S3Server) -> None:
    storage = open_storage(s3.backends, Keyring(SECRET), lambda: Hands().wall)
    name = new_name(some_clinic(), "letters", suffix="pdf")
    await storage.put(name, b"a letter")
    link = await storage.link(name, HOUR)
    answer = await fetch("GET", link)
    assert (answer.status_code, answer.content) == (200, b"a letter")
    assert answer.headers["content-type"] == "application/pdf"
    assert (await fetch("GET", link.partition("?")[0])).status_code in {400, 403}
    if s3.checks_signatures:
        last = link[-1]
        assert (await fetch("GET", link[:-1] + ("0" if last != "0" else "1"))).status_code == 403
        other = link.replace(name.rpartition("/")[2], "other.pdf")
        assert (await fetch("GET", other)).status_code == 403
        assert (await fetch("DELETE", link)).status_code == 403
        assert (await fetch("PUT", link, b"x")).status_code == 403
    assert await storage.get(name) == Stored(b"a letter", "application/pdf")


async def test_signed_link_ends(rclone_server: S3Server) -> None:
    storage = open_storage(rclone_server.backends, Keyring(SECRET), lambda: Hands().wall)
    name = new_name(some_clinic(), "letters", suffix="pdf")
    await storage.put(name, b"a letter")
    link = await storage.link(name, timedelta(seconds=1))
    await asyncio.sleep(2.1)
    assert (await fetch("GET", link)).status_code in {400, 403}


async def test_signed_link_takes_an_upload(s3: S3Server) -> None:
    storage = open_storage(s3.backends, Keyring(SECRET), lambda: Hands().wall)
    name = new_name(some_clinic(), "uploads", suffix="png")
    link = await storage.upload_link(name, HOUR)
    assert link is not None
    assert (await fetch("PUT", link, b"a picture")).status_code == 200
    assert await storage.get(name) == Stored(b"a picture", "image/png")
    if s3.checks_signatures:
        assert (await fetch("PUT", link[:-2], b"another")).status_code == 403
    assert await storage.size_of(name) == 9


async def test_wrong_key_is_refused_and_named_as_an_outage(rclone_server: S3Server) -> None:
    wrong = with_key(rclone_server.backends.storage_url, "X")
    storage = open_storage(wrong, Keyring(SECRET), lambda: Hands().wall)
    with pytest.raises(DependencyUnavailable):
        await storage.put(new_name(some_clinic(), "letters", suffix="txt"), b"x")


@pytest.mark.parametrize("opened", ["memory", "file"], indirect=True)
async def test_link_of_our_own_is_for_one_object_and_an_hour_at_most(opened: Opened) -> None:
    storage, hands = opened.storage, opened.hands
    name = new_name(some_clinic(), "letters", suffix="pdf")
    link = await storage.link(name, timedelta(days=9))
    token = link.removeprefix("/files/")
    assert storage.linked(token) == name
    hands.wall += HOUR - timedelta(seconds=1)
    assert storage.linked(token) == name
    hands.wall += timedelta(seconds=1)
    assert storage.linked(token) is None
    assert await storage.upload_link(name, HOUR) is None


@pytest.mark.parametrize("opened", ["memory"], indirect=True)
async def test_forged_link_is_none(storage: Storage) -> None:
    link = await storage.link(new_name(some_clinic(), "letters", suffix="pdf"), HOUR)
    token = link.removeprefix("/files/")
    other = Keyring(SECRET + "!")
    forged = [
        "",
        "A",
        token[:-1],
        token + "A",
        other.seal(storing.PURPOSE, b"x"),
        Keyring(SECRET).seal("cursor", b"x"),
    ]
    forged += [
        token[:n] + ("B" if token[n] == "A" else "A") + token[n + 1 :] for n in range(0, 60, 7)
    ]
    assert {storage.linked(each) for each in forged} == {None}


# What is public


async def test_public_object_is_told_to_browsers_as_lasting(moto_server: S3Server) -> None:
    backends = moto_server.backends
    cdn = Backends(
        storage_url=backends.storage_url,
        storage_public_url="https://cdn.example/files",
        storage_key_id=backends.storage_key_id,
        storage_secret=backends.storage_secret,
    )
    storage = open_storage(cdn, Keyring(SECRET), lambda: Hands().wall)
    clinic = some_clinic()
    public = name_of(clinic, "codes", "x", suffix="svg", public=True)
    private = name_of(clinic, "codes", "x", suffix="svg")
    assert storage.public_url(public) == f"https://cdn.example/files/{public}"
    assert storage.public_url(private) is None
    for name, lasting in ((public, "public, max-age=31536000, immutable"), (private, None)):
        await storage.put(name, b"<svg/>")
        answer = await fetch("GET", await storage.link(name, HOUR))
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.headers["cache-control"] == (lasting or "private, no-store")
        assert answer.headers.get("content-disposition") == (None if lasting else "attachment")


async def test_without_a_cdn_nothing_has_a_public_address(storage: Storage) -> None:
    assert storage.public_url(name_of(CLINIC, "x", suffix="svg", public=True)) is None


# Absence


Act = Callable[[Storage, Name], object]


async def test_storage_that_is_away_is_named_within_its_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with moto() as server:
        storage = open_storage(server.backends, Keyring(SECRET), lambda: Hands().wall)
        name = new_name(some_clinic(), "letters", suffix="txt")
        await storage.put(name, b"x")
        server.process.kill()
        server.process.wait()
        for asked in (
            storage.put(name, b"x"),
            storage.get(name),
            storage.size_of(name),
            storage.delete([name]),
            storage.list(CLINIC, "letters"),
            storage.put_stream(name, pieces_of(1), most=9),
            storage.stream(name),
        ):
            with pytest.raises(DependencyUnavailable) as refusal:
                await asked
            assert refusal.value.facts == {"dependency": "storage"}


async def test_storage_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "PATIENCE_SECONDS", 0.2)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"s3://bucket?endpoint=http://127.0.0.1:{port}"
        storage = open_storage(with_key(url, "x"), Keyring(SECRET), lambda: Hands().wall)
        name = new_name(some_clinic(), "letters", suffix="txt")
        for asked in (storage.get(name), storage.put_stream(name, pieces_of(1), most=9)):
            with pytest.raises(DependencyUnavailable):
                await asked


# Addresses


def test_folder_of_objects_is_made_and_shut_to_other_users(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    open_storage(Backends(storage_url=f"file:{folder}"), Keyring(SECRET), lambda: Hands().wall)
    assert folder.stat().st_mode & 0o077 == 0


def test_folder_that_cannot_be_made_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    url = f"file:{tmp_path / 'file' / 'x'}"
    with pytest.raises(SettingsRefused, match="CLINIQ_STORAGE_URL"):
        open_storage(Backends(storage_url=url), Keyring(SECRET), lambda: Hands().wall)


@pytest.mark.parametrize(
    "url",
    [
        "file:",
        "s3:bucket",
        "s3://",
        "s3://B",
        "s3://-x-",
        "s3://bucket?endpoint=",
        "s3://bucket?endpoint=ftp://x",
        "s3://bucket?secret=x",
        "s3://bucket#x",
        "s3://user:word@bucket",
        "memory:x",
        "http://bucket",
        "file:\0",
    ],
)
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|takes"):
        read_storage_address(url)
    with pytest.raises(SettingsRefused, match="CLINIQ_STORAGE_URL is wrong"):
        load_settings({"CLINIQ_STORAGE_URL": url})


def test_key_and_secret_of_the_storage_go_together() -> None:
    given = {"CLINIQ_STORAGE_KEY_ID": "x", "CLINIQ_STORAGE_SECRET": "y"}
    backends = load_settings(given).backends
    assert (backends.storage_key_id, backends.storage_secret) == ("x", "y")
    for name in given:
        with pytest.raises(SettingsRefused, match="go together"):
            load_settings({name: "x"})

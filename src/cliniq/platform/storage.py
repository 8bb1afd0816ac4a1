"""Object storage: a folder, memory, or S3 and what speaks like it, by address.

A name is made by a function here and never taken from anybody: it begins with the clinic, and what
is public stands apart, so that a bucket may open that part alone. What an object is, its suffix
says. Never called inside an open transaction.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, NewType, TypeVar

import msgspec
import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, S3Store

from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.problem import DependencyUnavailable, PayloadTooLarge
from cliniq.kernel.record import Record
from cliniq.platform.backends import Backends, StorageAddress, read_storage_address
from cliniq.platform.clock import Clock
from cliniq.platform.settings import SettingsRefused
from cliniq.platform.signing import Keyring

T = TypeVar("T")
Name = NewType("Name", str)
Store = LocalStore | MemoryStore | S3Store

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 15  # for one answer, with its retries
LARGEST_BYTES = 64 << 20  # of what is held in memory at once
LONGEST_LINK = timedelta(hours=1)
PIECE_BYTES = 8 << 20  # of a big object: each piece has its own deadline
PURPOSE = "file"

TYPES: Mapping[str, str] = MappingProxyType(
    {
        "csv": "text/csv; charset=utf-8",
        "gz": "application/gzip",
        "json": "application/json",
        "parquet": "application/vnd.apache.parquet",
        "pdf": "application/pdf",
        "png": "image/png",
        "svg": "image/svg+xml",
        "txt": "text/plain; charset=utf-8",
        "zip": "application/zip",
    }
)
_PART = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}\Z", re.ASCII)
_ABSENT = (BaseError, OSError, TimeoutError)


class Stored(Record, frozen=True):
    """An object: what it holds and what that is."""

    body: bytes
    media_type: str


class Streaming(Record, frozen=True):
    """An object on its way. Units: `size`, bytes."""

    size: int
    pieces: AsyncIterator[bytes]


class Linked(Record, frozen=True):
    """What a link of ours leads to, and until when. Units: `expires_at`, seconds of the epoch."""

    name: str
    expires_at: int


def name_of(clinic_id: ClinicId, *parts: str, suffix: str, public: bool = False) -> Name:
    """Make the name of a clinic's object; `public` ones anybody may read who knows it.

    Raises: ValueError for parts or a suffix that are no plain words.
    """
    for part in parts:
        if not _PART.match(part):
            raise ValueError("a part of an object's name must be a plain word")
    if not parts or suffix not in TYPES:
        raise ValueError("an object needs a name and a known suffix")
    path = "/".join(("clinics", str(clinic_id), *parts))
    return Name(f"{'public/' if public else ''}{path}.{suffix}")


def new_name(clinic_id: ClinicId, kind: str, *, suffix: str) -> Name:
    """Make a name that nobody has used, and that does not tell what is under it."""
    return name_of(clinic_id, kind, str(new_id()), suffix=suffix)


def media_type_of(name: Name) -> str:
    """Say what an object is."""
    return TYPES[name.rpartition(".")[2]]


def _is_public(name: Name) -> bool:
    return name.startswith("public/")


class Storage:
    """Puts, gets, lists, deletes and links objects.

    Bounds: one answer takes `PATIENCE_SECONDS` at most, a body in memory `LARGEST_BYTES`.
    Raises: DEPENDENCY_UNAVAILABLE 503 where the storage does not serve, from every method.
    """

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        wall: Clock,
        public_url: str | None = None,
    ) -> None:
        self._store, self._keyring, self._wall = store, keyring, wall
        self._public_url = public_url

    async def put(self, name: Name, body: bytes, *, most: int = LARGEST_BYTES) -> None:
        """Lay an object down whole, or not at all; over what was there.

        Raises: PAYLOAD_TOO_LARGE 413.
        """
        if len(body) > most:
            raise PayloadTooLarge
        await self._answer(
            obstore.put_async(self._store, name, body, attributes=self._attributes(name))
        )

    async def put_stream(self, name: Name, pieces: AsyncIterator[bytes], *, most: int) -> int:
        """Lay down what comes in pieces; nothing where it is cut off. Returns its size in bytes.

        Bounds: each piece that is waited for has `PATIENCE_SECONDS`.
        Raises: PAYLOAD_TOO_LARGE 413; whatever `pieces` raises.
        """
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in pieces:
                size += len(piece)
                if size > most:
                    raise PayloadTooLarge
                deadline.reschedule(asyncio.get_running_loop().time() + PATIENCE_SECONDS)
                yield piece

        try:
            async with asyncio.timeout(PATIENCE_SECONDS) as deadline:
                await obstore.put_async(
                    self._store,
                    name,
                    counted(),
                    attributes=self._attributes(name),
                    chunk_size=PIECE_BYTES,
                    max_concurrency=2,
                )
        except _ABSENT as error:
            raise _absent(error) from error
        return size

    async def get(self, name: Name, *, most: int = LARGEST_BYTES) -> Stored | None:
        """Fetch an object; nothing where there is none.

        Raises: PAYLOAD_TOO_LARGE 413 for one that is to be streamed.
        """

        async def fetch() -> bytes:
            found = await obstore.get_async(self._store, name)
            if found.meta["size"] > most:
                raise PayloadTooLarge
            return bytes(await found.bytes_async())

        body = await self._seek(fetch())
        return None if body is None else Stored(body, media_type_of(name))

    async def size_of(self, name: Name) -> int | None:
        """Say how many bytes an object has; nothing where there is none."""
        found = await self._seek(obstore.head_async(self._store, name))
        return None if found is None else found["size"]

    async def stream(self, name: Name) -> Streaming | None:
        """Begin to fetch an object in pieces, each with its own deadline; nothing without one."""
        found = await self._seek(obstore.get_async(self._store, name))
        if found is None:
            return None
        return Streaming(found.meta["size"], self._pieces(found))

    async def _pieces(self, found: Any) -> AsyncIterator[bytes]:
        pieces = aiter(found.stream(min_chunk_size=PIECE_BYTES))
        while (piece := await self._answer(anext(pieces, None))) is not None:
            yield bytes(piece)

    async def delete(self, names: Iterable[Name]) -> None:
        """Delete objects; those that are not there are none. Idempotent."""
        for name in names:
            await self._seek(obstore.delete_async(self._store, name))

    async def list(self, clinic_id: ClinicId, kind: str, *, public: bool = False) -> list[Name]:
        """List a clinic's objects of a kind."""
        if not _PART.match(kind):
            raise ValueError("a kind of object must be a plain word")
        under = f"{'public/' if public else ''}clinics/{clinic_id}/{kind}"

        async def collect() -> list[Name]:
            pages = obstore.list(self._store, under)
            return [Name(each["path"]) async for page in pages for each in page]

        return await self._answer(collect())

    def public_url(self, name: Name) -> str | None:
        """Say where a CDN serves a public object; nothing for others, or without a CDN."""
        if self._public_url is None or not _is_public(name):
            return None
        return f"{self._public_url}/{name}"

    async def link(self, name: Name, life: timedelta) -> str:
        """Make an address by which anybody can fetch the object for a while, as an attachment.

        Bounds: an hour at most. S3 signs it itself; else it is a path of ours that `linked` reads.
        """
        life = min(life, LONGEST_LINK)
        if isinstance(self._store, S3Store):
            return await self._answer(obstore.sign_async(self._store, "GET", name, life))
        payload = Linked(name, int((self._wall() + life).timestamp()))
        sealed = self._keyring.seal(PURPOSE, msgspec.msgpack.encode(payload))
        return f"/files/{sealed}"

    async def upload_link(self, name: Name, life: timedelta) -> str | None:
        """Make an address to which an object can be sent by PUT; nothing where only we can take it.

        Whoever sends it is not held to a size: look with `size_of` before believing it.
        """
        if not isinstance(self._store, S3Store):
            return None
        return await self._answer(
            obstore.sign_async(self._store, "PUT", name, min(life, LONGEST_LINK))
        )

    def linked(self, token: str) -> Name | None:
        """Read a link of ours; nothing where it is forged or over."""
        payload = self._keyring.open(PURPOSE, token)
        if payload is None:
            return None
        said = msgspec.msgpack.decode(payload, type=Linked)
        return Name(said.name) if self._wall().timestamp() < said.expires_at else None

    async def ensure_writable(self, probe: ClinicId) -> None:
        """Lay something down, read it and take it away: for who wants to know whether it works."""
        name = new_name(probe, "probe", suffix="txt")
        await self.put(name, b"probe")
        try:
            if await self.get(name) is None:
                raise DependencyUnavailable("storage")
        finally:
            await self.delete([name])

    def _attributes(self, name: Name) -> Any:
        """Say what a browser is told that fetches the object from S3; a folder keeps no such."""
        if isinstance(self._store, LocalStore):
            return None
        told = {"Content-Type": media_type_of(name)}
        if _is_public(name):  # its name changes when it does
            return told | {"Cache-Control": "public, max-age=31536000, immutable"}
        return told | {"Cache-Control": "private, no-store", "Content-Disposition": "attachment"}

    async def _answer(self, asked: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await asked
        except _ABSENT as error:
            raise _absent(error) from error

    async def _seek(self, asked: Awaitable[T]) -> T | None:
        """Answer with nothing where there is no such object."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await asked
        except FileNotFoundError:
            return None
        except _ABSENT as error:
            raise _absent(error) from error


def _absent(error: BaseException) -> DependencyUnavailable:
    log.warning("the storage does not serve", error=type(error).__name__)
    return DependencyUnavailable("storage")


def open_storage(backends: Backends, keyring: Keyring, wall: Clock) -> Storage:
    """Open the storage that an address names.

    Raises: ValueError for an address that is none; SettingsRefused where its folder cannot be made.
    """
    store = _store_at(read_storage_address(backends.storage_url), backends)
    return Storage(store, keyring, wall, backends.storage_public_url)


def _store_at(address: StorageAddress, backends: Backends) -> Store:
    if address.kind == "memory":
        return MemoryStore()
    if address.kind == "file":
        try:
            Path(address.path).mkdir(parents=True, exist_ok=True, mode=0o700)
            return LocalStore(Path(address.path).resolve())
        except OSError as error:
            raise SettingsRefused(
                f"CLINIQ_STORAGE_URL: {address.path} cannot be used: {error.strerror}."
            ) from None
    given: dict[str, Any] = {
        "endpoint": address.endpoint,
        "region": address.region,
        "access_key_id": backends.storage_key_id,
        "secret_access_key": backends.storage_secret,
    }
    return S3Store(
        address.bucket,
        prefix=address.path or None,
        client_options={
            "allow_http": address.endpoint is not None and address.endpoint.startswith("http:"),
            "connect_timeout": "3s",
            "read_timeout": "10s",
            "timeout": "1h",  # of a whole body, whose pieces have deadlines of their own
        },
        retry_config={
            "max_retries": 2,
            "retry_timeout": timedelta(seconds=10),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
        **{name: value for name, value in given.items() if value},
    )

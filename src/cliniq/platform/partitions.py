"""The end of a partition's life: detached when its time has come, archived, verified, dropped.

Nothing is detached but what `partitioned.keep` gives an end, and nothing is dropped but what is
empty and has to be, or what was read back from the archive and found whole.
"""

import asyncio
import hashlib
import random
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import msgspec
import structlog

from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.record import Record
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import partitions_store
from cliniq.platform.db import Database, Opening, ReadUnit, Unit, open_read_unit, open_unit
from cliniq.platform.partitions_store import Partition

log = structlog.get_logger(__name__)

TRIES = 10
PAUSE_SECONDS = 0.5  # of readers and writers, between two of our tries
BLOCKS_AT_ONCE = 64  # half a megabyte of a table, and what lies beside it
COUNTING_MINUTES = 10

Progress = Callable[[str, int, int], None]  # which partition, how far, of how much


class Storage(Protocol):
    """Where archives are kept."""

    async def put(self, key: str, chunks: AsyncIterator[bytes], content_type: str) -> None:
        """Store an object whole, or not at all."""

    def get(self, key: str) -> AsyncIterator[bytes]:
        """Read an object."""


class ArchiveDiffers(Exception):
    """What was read back from the archive is not what was written."""


class Manifest(Record, frozen=True):
    """What an archive holds; lies beside it, as JSON. `sha256` is of the CSV, header included."""

    part: str
    table_name: str
    starts_on: str
    ends_on: str
    columns: str
    rows: int
    size: int
    sha256: str


class Tally:
    """Counts a CSV as it passes by: its rows, its bytes, its digest."""

    def __init__(self) -> None:
        self.lines = 0
        self.size = 0
        self._digest = hashlib.sha256()
        self._quotes = 0  # a line feed within quotes ends no row

    def add(self, chunk: bytes) -> None:
        """Count a chunk; a row may end in another one than it began in."""
        self.size += len(chunk)
        self._digest.update(chunk)
        pieces = chunk.split(b'"')
        self.lines += sum(piece.count(b"\n") for piece in pieces[self._quotes % 2 :: 2])
        self._quotes += len(pieces) - 1

    def counted(self) -> tuple[int, int, str]:
        """Tell rows without the header, bytes, and digest."""
        return self.lines - 1, self.size, self._digest.hexdigest()


async def list_all(database: Database) -> list[Partition]:
    """List the partitions, and the former ones that wait to be archived."""
    async with open_read_unit(database, PlatformScope("upkeep")) as unit:
        return await partitions_store.list_partitions(unit, unit.now.date(), unit.wall.date())


async def detach_due(database: Database) -> dict[str, str]:
    """Take off what has had its time; return what became of each.

    One that stays busy is left for the next upkeep, and its neighbours are not.
    """
    become = {}
    for each in await list_all(database):
        if each.is_attached and each.is_due:
            become[each.part] = await _detach(database, each.part)
            log.info("a partition's time has come", partition=each.part, outcome=become[each.part])
    return become


async def _detach(database: Database, part: str) -> str:
    for _ in range(TRIES):
        try:
            async with _unit(database) as unit:
                return await partitions_store.detach_partition(
                    unit, part, unit.now.date(), unit.wall.date(), unit.wall
                )
        except DependencyUnavailable:  # somebody reads it; let those go first who wait behind us
            await asyncio.sleep(PAUSE_SECONDS * (1 + random.random()))  # noqa: S311 - a jitter
    return "busy"


async def archive_detached(
    database: Database, storage: Storage, progress: Progress = lambda _part, _done, _all: None
) -> list[Manifest]:
    """Archive what was detached, verify it, and drop it; return what was.

    Idempotent: what was cut short is done again, into the same place.
    Bounds: holds one chunk at a time, however large the partition is.
    Raises: ArchiveDiffers, and whatever the storage raises; that partition stays.
    """
    waiting = [each for each in await list_all(database) if not each.is_attached]
    return [await _archive(database, storage, each, progress) for each in waiting]


async def _archive(
    database: Database, storage: Storage, part: Partition, progress: Progress
) -> Manifest:
    address = f"archive/{part.table_name}/{part.part}"
    written, found = Tally(), Tally()
    lines = _counted(_lines(database, part, progress), written)
    await storage.put(f"{address}.csv.gz", _compressed(lines), "application/gzip")
    async for chunk in _expanded(storage.get(f"{address}.csv.gz")):
        found.add(chunk)
    if found.counted() != written.counted():
        raise ArchiveDiffers(part.part)
    rows, size, sha256 = found.counted()
    ends = part.starts_on.isoformat(), part.ends_on.isoformat()
    manifest = Manifest(part.part, part.table_name, *ends, part.columns, rows, size, sha256)
    await storage.put(f"{address}.json", _once(msgspec.json.encode(manifest)), "application/json")
    await _drop(database, manifest, address)
    log.info("a partition was archived", partition=part.part, rows=rows)
    return manifest


async def _drop(database: Database, manifest: Manifest, address: str) -> None:
    """Drop a partition; its table's neighbours may be busy, so that this is tried a few times.

    Raises: DEPENDENCY_UNAVAILABLE 503.
    """
    for left in reversed(range(TRIES)):
        try:
            async with _unit(database) as unit:
                await partitions_store.take_time(unit, COUNTING_MINUTES)
                await partitions_store.drop_partition(
                    unit, manifest.part, manifest.rows, manifest.sha256, address, unit.wall
                )
        except DependencyUnavailable:
            if not left:
                raise
            await asyncio.sleep(PAUSE_SECONDS * (1 + random.random()))  # noqa: S311 - a jitter
        else:
            return


async def _lines(database: Database, part: Partition, progress: Progress) -> AsyncIterator[bytes]:
    """Read a detached partition as CSV; nobody else may write it, so that it stands still."""
    yield f"{part.columns}\n".encode()
    for first in range(0, part.blocks, BLOCKS_AT_ONCE):
        async with _read_unit(database) as unit:
            rows = await partitions_store.read_partition(unit, part.part, first, BLOCKS_AT_ONCE)
        if rows:
            yield ("\n".join(rows) + "\n").encode()
        progress(part.part, min(first + BLOCKS_AT_ONCE, part.blocks), part.blocks)


async def _counted(chunks: AsyncIterator[bytes], tally: Tally) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        tally.add(chunk)
        yield chunk


async def _compressed(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Compress, in a thread; the same rows always give the same bytes."""
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)  # 16: as gzip, without a date
    async for chunk in chunks:
        if packed := await asyncio.to_thread(packer.compress, chunk):
            yield packed
    yield packer.flush()


async def _expanded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    async for chunk in chunks:
        rest = chunk
        while rest:
            yield await asyncio.to_thread(unpacker.decompress, rest, 1 << 20)
            rest = unpacker.unconsumed_tail
    yield unpacker.flush()
    if not unpacker.eof:
        raise ArchiveDiffers("the archive is cut short")


async def _once(whole: bytes) -> AsyncIterator[bytes]:
    yield whole


def _unit(database: Database) -> Opening[Unit]:
    return open_unit(database, PlatformScope("upkeep"))


def _read_unit(database: Database) -> Opening[ReadUnit]:
    return open_read_unit(database, PlatformScope("upkeep"))

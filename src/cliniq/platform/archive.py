"""Where partitions go when their time has come: objects that nobody links to."""

from collections.abc import AsyncIterator

from cliniq.kernel.problem import NotFound
from cliniq.platform.storage import Name, Storage

LARGEST_BYTES = 1 << 40  # of one partition, packed


class Archive:
    """Lays archives into the storage, and reads them back."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def put(self, key: str, chunks: AsyncIterator[bytes], content_type: str) -> None:  # noqa: ARG002 - the storage tells it by the name
        """Store an archive whole, or not at all.

        Raises: DEPENDENCY_UNAVAILABLE 503, PAYLOAD_TOO_LARGE 413.
        """
        await self._storage.put_stream(Name(key), chunks, most=LARGEST_BYTES)

    async def get(self, key: str) -> AsyncIterator[bytes]:
        """Read an archive. Raises: NOT_FOUND 404, DEPENDENCY_UNAVAILABLE 503."""
        found = await self._storage.stream(Name(key))
        if found is None:
            raise NotFound
        async for piece in found.pieces:
            yield piece

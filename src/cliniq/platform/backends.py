"""What stands behind the process besides PostgreSQL: chosen by address, each optional."""

from cliniq.kernel.record import Record


class Backends(Record, frozen=True):
    """Where the other parts are. Nothing set means: one process, on its own.

    `storage_url` is `file:<folder>`, `memory:` or `s3://bucket/prefix?endpoint=...`;
    `storage_public_url` is the address under which a CDN serves what is public in it.
    `pooler`: a transaction pooler such as PgBouncer stands before the database.
    """

    redis_url: str | None = None
    storage_url: str = "memory:"
    storage_public_url: str | None = None
    pooler: bool = False


ALONE = Backends()

"""What stands behind the process besides PostgreSQL: chosen by address, each optional."""

import re
from urllib.parse import parse_qsl, urlsplit

from cliniq.kernel.record import Record

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z", re.ASCII)


class Backends(Record, frozen=True):
    """Where the other parts are. Nothing set means: one process, on its own.

    `storage_url` is `file:<folder>`, `memory:` or `s3://bucket/prefix?endpoint=...&region=...`;
    `storage_public_url` is the address under which a CDN serves what is public in it. Without
    `storage_key_id` and `storage_secret` the usual variables and roles of AWS count.
    `pooler`: a transaction pooler such as PgBouncer stands before the database. A statement slower
    than `slow_query_ms` is logged; 0 for none. `rate_scale` multiplies the limits of traffic.
    """

    redis_url: str | None = None
    storage_url: str = "memory:"
    storage_public_url: str | None = None
    pooler: bool = False
    slow_query_ms: int = 0
    rate_scale: int = 1
    storage_key_id: str | None = None
    storage_secret: str | None = None


ALONE = Backends()


class StorageAddress(Record, frozen=True):
    """An address of object storage, taken apart. `path` is a folder, or a prefix in the bucket."""

    kind: str
    path: str = ""
    bucket: str = ""
    endpoint: str | None = None
    region: str | None = None


def read_storage_address(url: str) -> StorageAddress:
    """Take an address of object storage apart.

    Raises: ValueError with what it must be.
    """
    if url == "memory:":
        return StorageAddress("memory")
    if url.startswith("file:"):
        folder = url.removeprefix("file:").removeprefix("//")
        if not folder or "\0" in folder:
            raise ValueError("must be file:<folder>")
        return StorageAddress("file", folder)
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme != "s3" or not _BUCKET.match(parts.netloc) or parts.fragment:
        raise ValueError("must be file:<folder>, memory: or s3://bucket/prefix")
    if options.keys() - {"endpoint", "region"} or not all(options.values()):
        raise ValueError("takes endpoint=... and region=... after the question mark, nothing else")
    endpoint = options.get("endpoint")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise ValueError("its endpoint must begin with http:// or https://")
    return StorageAddress(
        "s3", parts.path.strip("/"), parts.netloc, endpoint, options.get("region")
    )

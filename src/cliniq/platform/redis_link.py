"""The one way to Redis or Valkey: how long anybody waits for it, and what its silence is called.

It is derived, rebuildable and may be away: whoever uses it says what happens meanwhile.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as Gone
from redis.exceptions import RedisError

from cliniq.kernel.problem import DependencyUnavailable

PATIENCE_SECONDS = 2.0  # for an answer, and for a connection
HEALTH_SECONDS = 15  # a connection that was idle for longer is tried before it is used
RETRIES = 1  # a pooled connection may have died unnoticed
MOST_CONNECTIONS = 64

Link: TypeAlias = Redis
Line: TypeAlias = AbstractConnection

# What says that Redis cannot serve just now.
ABSENT = (RedisError, OSError, TimeoutError)


@asynccontextmanager
async def open_link(url: str) -> AsyncIterator[Link]:
    """Open a pool of connections, each made when it is first needed.

    Bounds: an answer takes `PATIENCE_SECONDS`, or it is a refusal.
    """
    link = make_link(url)
    try:
        yield link
    finally:
        await link.aclose()


def make_link(
    url: str,
    patience: float = PATIENCE_SECONDS,
    most: int = MOST_CONNECTIONS,
) -> Link:
    """Make a pool of connections that whoever made it closes. Units: `patience` in seconds."""
    return Redis.from_url(
        url,
        protocol=2,
        socket_timeout=patience,
        socket_connect_timeout=patience,
        socket_keepalive=True,
        health_check_interval=HEALTH_SECONDS,
        max_connections=most,
        retry=Retry(ExponentialWithJitterBackoff(cap=0.2, base=0.02), RETRIES, (Gone,)),
        client_name="cliniq",
    )


@contextmanager
def answering() -> Iterator[None]:
    """Raise DEPENDENCY_UNAVAILABLE 503 where Redis does not answer, or answers with an error."""
    try:
        yield
    except ABSENT as error:
        raise DependencyUnavailable("redis") from error


async def open_line(link: Link) -> Line:
    """Connect outside the pool, for one who listens; what is raised is in `ABSENT`."""
    line: Line = link.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    try:
        await line.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await line.disconnect(nowait=True)
        raise
    return line

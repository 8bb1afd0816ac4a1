"""Passwords: argon2id in a bounded pool, so that a storm of sign-ins cannot take the machine."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from cliniq.kernel.problem import RateLimitExceeded

# Source: OWASP Password Storage Cheat Sheet, argon2id; about 19 ms of one core.
MEMORY_KIB, ROUNDS, LANES = 19 * 1024, 2, 1
WAITING_AT_MOST = 200

T = TypeVar("T")


class Passwords:
    """Hashes and checks passwords on a few threads; argon2 frees the interpreter while it works."""

    def __init__(self, threads: int = 2) -> None:
        self._hash = PasswordHash([Argon2Hasher(ROUNDS, MEMORY_KIB, LANES)])
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._waiting = 0
        self._nobodys = self._hash.hash("nobody has this password")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """Hash a new password. Raises: RATE_LIMIT_EXCEEDED 429 when too many wait."""
        return await self._run(lambda: self._hash.hash(password))

    async def verify(self, password: str, known: str | None) -> bool:
        """Check a password; for an unknown account (`None`) it takes as long and fails.

        Raises: RATE_LIMIT_EXCEEDED 429 when too many wait.
        """
        right = await self._run(lambda: self._hash.verify(password, known or self._nobodys))
        return right and known is not None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_AT_MOST:
            raise RateLimitExceeded(5)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

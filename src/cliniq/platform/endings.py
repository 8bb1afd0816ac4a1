"""How tasks that go on for ever are ended."""

import asyncio
from typing import Any

AGAIN_SECONDS = 0.5


async def end_all(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended; what they raise is dropped.

    Once may not be enough: `asyncio.wait_for` of Python 3.11, through which Redis is written to,
    drops a cancellation that comes in the moment in which it is done.
    """
    while left := [each for each in tasks if not each.done()]:
        for each in left:
            each.cancel()
        await asyncio.wait(left, timeout=AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)  # their errors have been seen

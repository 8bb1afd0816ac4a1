"""This machine's network for one test at a time, of all that run side by side.

A browser drops what it is loading whenever an interface comes or goes.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TURN = Path(tempfile.gettempdir()) / f"cliniq-network-{os.geteuid()}"


@contextmanager
def alone_on_the_network() -> Iterator[None]:
    """Wait until nobody else is, and let the next one in afterwards."""
    with TURN.open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield

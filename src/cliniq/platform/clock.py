"""The two clocks. Nothing else reads the time; a unit reads each once, when it opens.

Clinic time moves appointments, windows and queue days; a rehearsal may run it fast or elsewhere.
Wall time moves tokens, rotating codes, leases, limits and the audit.
"""

import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]


def utc_now() -> datetime:
    """Read the machine's clock, aware, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the one place


@dataclass(frozen=True, slots=True)
class Clocks:
    """Both clocks, handed down from a composition root."""

    clinic: Clock = utc_now
    wall: Clock = utc_now


class NoDial(Exception):
    """The file is missing, or is no dial; the message is one sentence for the operator."""


_MARK = b"cliniq dial 1\n\0\0"
_TURNS = struct.Struct("=q")
_STAND = struct.Struct("=qqd")  # clinic time and wall time of the turn, and the speed from then on
_SIZE = len(_MARK) + _TURNS.size + 2 * _STAND.size
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Dial:
    """A clock that can be turned, shared by all processes of a rehearsal through a small file.

    It goes `speed` times as fast as the wall's from where it was turned to; 0 stands still.
    One process turns it, any number read: a reading is of one turn, never of half of one.
    """

    def __init__(self, path: Path) -> None:
        """Open a dial. Raises: NoDial."""
        try:
            with path.open("r+b") as file:
                self._file = mmap.mmap(file.fileno(), _SIZE)
        except (OSError, ValueError):
            raise NoDial(f"{path} cannot be read, or is no clock of a rehearsal.") from None
        if self._file[: len(_MARK)] != _MARK:
            raise NoDial(f"{path} is no clock of a rehearsal.")
        self.path = path

    @classmethod
    def make(cls, path: Path, at: datetime, speed: float) -> "Dial":
        """Make a dial's file, in place of an older one, and turn it."""
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_bytes(_MARK + _TURNS.pack(0) + bytes(2 * _STAND.size))
        dial = cls(draft)
        dial.turn(at, speed)
        draft.replace(path)
        dial.path = path
        return dial

    def turn(self, at: datetime, speed: float) -> None:
        """Set the time, and how fast it goes from here.

        Bounds: `at` is aware; `speed` from 0 to 100,000.
        """
        if not 0 <= speed <= 100_000:  # noqa: PLR2004
            raise ValueError("a speed is from 0 to 100,000")
        turns = self._turns() + 1
        stand = _STAND.pack(_count(at), _count(utc_now()), speed)
        where = _slot(turns)
        self._file[where : where + _STAND.size] = stand
        self._file[len(_MARK) : len(_MARK) + _TURNS.size] = _TURNS.pack(turns)

    def read(self) -> datetime:
        """Read the time: a `Clock`."""
        at, wall, speed = self._stand()
        return at + (utc_now() - wall) * speed

    @property
    def speed(self) -> float:
        """Say how many times as fast as the wall's it goes."""
        return self._stand()[2]

    def _stand(self) -> tuple[datetime, datetime, float]:
        while True:
            turns = self._turns()
            at, wall, speed = _STAND.unpack_from(self._file, _slot(turns))
            if self._turns() - turns <= 1:  # or this slot may be written anew already
                return _BEGINNING + at * _MICROSECOND, _BEGINNING + wall * _MICROSECOND, speed

    def _turns(self) -> int:
        turns: int = _TURNS.unpack_from(self._file, len(_MARK))[0]
        return turns


def _slot(turns: int) -> int:
    """Say where a turn's stand is written: the one before it stays whole meanwhile."""
    return len(_MARK) + _TURNS.size + turns % 2 * _STAND.size


def _count(instant: datetime) -> int:
    return (instant - _BEGINNING) // _MICROSECOND

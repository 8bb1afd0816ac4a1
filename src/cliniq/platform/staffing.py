"""How many processes a crew needs, and when to try again after one has died: decisions only."""

from collections.abc import Mapping

from cliniq.kernel.record import Record

BUSY = 200  # jobs that wait, for each worker: above it one more is worth its memory
CALM = 50  # and below it, for each of those who would be left, one less will do
STEP = 2  # how many may be added at a time: their effect is to be seen before more are

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0
MOST_DEATHS = 5  # in a row, of a crew that has never served
MOST_LATER = 40  # of one that has: three minutes, in which its database may come back


class Bounds(Record, frozen=True):
    """How many workers there may be, ends included."""

    least: int
    most: int


def wanted(depths: Mapping[str, int], running: int, bounds: Bounds) -> int:
    """Say how many workers there should be now, given how many jobs wait in each lane.

    Between `CALM` and `BUSY` nothing changes, or each job that is done would move the crew.
    Bounds: at most `STEP` more and one less than now, within `bounds` always.
    """
    waiting = sum(depths.values())
    if waiting > running * BUSY:
        asked = min(-(-waiting // BUSY), running + STEP)
    elif waiting <= (running - 1) * CALM:
        asked = running - 1
    else:
        asked = running
    return max(bounds.least, min(bounds.most, asked))


def pause_after(deaths: int, *, serving: bool, has_served: bool) -> float | None:
    """Say how long to wait before a process that died is started again; nothing: give up.

    `deaths`: of processes in its seat, one soon after the other. As long as a neighbour serves
    there is no giving up. Units: seconds.
    """
    if not serving and deaths >= (MOST_LATER if has_served else MOST_DEATHS):
        return None
    pause: float = FIRST_PAUSE_SECONDS * 2 ** min(deaths - 1, 10)
    return min(LONGEST_PAUSE_SECONDS, pause)

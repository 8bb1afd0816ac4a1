"""What must be true of a queue, and each way in which it can be wrong: every sin is counted."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from cliniq.domains.queue import api as queue
from cliniq.kernel.ids import new_id
from cliniq.simulation.ledger import Ledger, Line, Waiting
from tests.support import NOON

MINUTE = timedelta(minutes=1)
QUEUE, DOCTOR = new_id(), new_id()


def line_of(ledger: Ledger, *minutes: int) -> Line:
    """A queue in which so many wait, due by the minute."""
    line = ledger.line(QUEUE, DOCTOR)
    for ticket, minute in enumerate(minutes, 1):
        waiting = Waiting(NOON + minute * MINUTE, ticket, new_id(), new_id())
        ledger.join(line, waiting, new_id())
    return line


def desk(*tickets: tuple[int, str], version: int = 7) -> queue.QueueSnapshot:
    entry: dict[str, Any] = {
        "patient_name": "",
        "priority": 0,
        "due_at": NOON,
        "entered_at": NOON,
        "called_at": None,
        "room": None,
    }
    ids = {name: new_id() for name in ("entry_id", "appointment_id", "patient_id")}
    entries = [{"ticket": ticket, "status": status, **ids, **entry} for ticket, status in tickets]
    head = {"queue_id": QUEUE, "site_id": new_id(), "line_id": DOCTOR, "line_name": "Dr."}
    whole = {**head, "on_day": NOON.date(), "version": version, "entries": entries}
    return msgspec.convert(whole, queue.QueueSnapshot)


def board(
    waiting: Sequence[int] = (), called: Sequence[int] = (), begun: Sequence[int] = ()
) -> Any:
    seen = [queue.CalledTicket(each, None) for each in called]
    return queue.Board(QUEUE, NOON.date(), "Dr.", list(waiting), seen, list(begun))


def wrong(ledger: Ledger) -> dict[str, int]:
    return {name: count for name, count in ledger.counts.items() if count}


def test_queue_that_is_as_it_must_be_has_no_fault() -> None:
    ledger = Ledger()
    line = line_of(ledger, 5, 0, 9)
    assert ledger.call(line, 2, None)
    line.called.pop(2)
    line.begun.add(2)
    assert ledger.call(line, 1, None)
    seen = desk((2, "in_progress"), (1, "called"), (3, "waiting"))
    ledger.compare(line, seen, board([3], [1], [2]))
    assert wrong(ledger) == {}


@pytest.mark.parametrize(
    ("seen", "shown", "fault"),
    [
        (desk((1, "waiting")), board([1]), "lost"),  # acknowledged, and not there
        (desk(), board(), "lost"),
        (desk((1, "waiting"), (2, "waiting"), (3, "waiting")), board([1, 2, 3]), "doubled"),
        (desk((1, "waiting"), (2, "waiting"), (2, "waiting")), board([1, 2]), "doubled"),
        (desk((2, "waiting"), (1, "waiting")), board([1, 2]), "astray"),
        (desk((1, "waiting"), (2, "waiting")), board([2, 1]), "astray"),
        (desk((1, "waiting"), (2, "waiting")), board([1]), "astray"),
        (desk((1, "waiting"), (2, "waiting")), board([2], [1]), "astray"),
        (desk((1, "waiting"), (2, "waiting")), None, "lost"),  # nobody was told
    ],
)
def test_screen_that_differs_is_a_fault(
    seen: queue.QueueSnapshot, shown: queue.Board | None, fault: str
) -> None:
    ledger = Ledger()
    ledger.compare(line_of(ledger, 0, 1), seen, shown)
    assert ledger.counts[fault] > 0
    assert ledger.wrong


@pytest.mark.parametrize(
    ("ticket", "own", "fault"),
    [(1, False, "doubled"), (2, True, "doubled"), (3, False, "lost")],
)
def test_ticket_that_is_not_the_next_one_of_a_visit_without_one_is_a_fault(
    ticket: int, *, own: bool, fault: str
) -> None:
    ledger = Ledger()
    line = line_of(ledger, 0)
    visit = line.tickets[1] if own else new_id()
    ledger.join(line, Waiting(NOON, ticket, new_id(), new_id()), visit)
    assert wrong(ledger) == {fault: 1}


def test_call_of_somebody_who_is_not_next_or_not_there_is_a_fault() -> None:
    ledger = Ledger()
    line = line_of(ledger, 0, 1)
    assert ledger.call(line, 2, None)
    assert wrong(ledger) == {"astray": 1}
    assert not ledger.call(line, 2, None)
    assert wrong(ledger) == {"astray": 1, "doubled": 1}


def test_story_is_named_by_all_that_is_told_in_order() -> None:
    def told(*whats: str) -> bytes:
        ledger = Ledger()
        for each in whats:
            ledger.note(NOON, "Ann", each, 1)
        return ledger.digest

    assert told("waits", "goes in") == told("waits", "goes in")
    assert len({told("waits", "goes in"), told("goes in", "waits"), told("waits"), told()}) == 4


def test_ids_do_not_name_a_story() -> None:
    first, second = Ledger(), Ledger()
    for ledger in (first, second):
        line_of(ledger, 0, 1)
    assert first.digest == second.digest
    assert UUID(int=0) not in first.lines

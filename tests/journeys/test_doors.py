"""The ledger that proofs of loss rest on does notice a loss."""

from tests.journeys.crowd import Answer
from tests.journeys.doors import Ledger

KEPT = {"appointment_id": "a", "queue_id": "q", "ticket": 1, "entry_id": "e"}


def ledger() -> Ledger:
    kept = Ledger(called=["e"], started=["e"], completed=["e"])
    kept.take_scan(Answer(200, {"check_ins": [KEPT]}))
    return kept


def test_ledger_misses_nothing_where_all_is_kept() -> None:
    assert set(ledger().missing([KEPT | {"status": "completed"}]).values()) == {0}


def test_ledger_counts_every_loss() -> None:
    lost = ledger().missing([])
    assert lost == {"tickets": 1, "calls": 1, "twice": 0, "starts": 1, "completions": 1}
    changed = ledger().missing([KEPT | {"ticket": 2, "status": "called"}])
    assert changed == {"tickets": 1, "calls": 0, "twice": 0, "starts": 1, "completions": 1}


def test_ledger_counts_a_call_of_one_place_by_two() -> None:
    kept = ledger()
    kept.called.append("e")
    assert kept.missing([KEPT | {"status": "completed"}])["twice"] == 1

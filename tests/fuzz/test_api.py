"""Whatever a stranger sends, the API does what its document says: with all phases of schemathesis.

What is tried, by whom and with which words, is in `tried`, `callers` and `town`.
"""

import sys

import pytest

from cliniq.app import House, build_app
from tests.fuzz import sizes
from tests.fuzz.conftest import NO_RANDOM
from tests.fuzz.town import Town
from tests.fuzz.tried import Tried, try_app
from tests.journeys.conftest import Note
from tests.platform.wire import operations

pytestmark = NO_RANDOM

NAMES = [str(each) for each in operations()]
EMPTY = " /api/v1/demo"  # there is no demo, and it says so
MOST = 0.5  # of what is allowed: the rest are others' things, spent tokens, forged codes


@pytest.fixture(scope="module")
async def tried(open_town: tuple[House, Town]) -> Tried:
    """What came of trying everything."""
    house, town = open_town
    return await try_app(build_app(house, "http://cliniq.test"), town)


@pytest.mark.parametrize("operation", NAMES)
async def test_operation_does_what_the_document_says(tried: Tried, operation: str) -> None:
    findings = tried.findings.get(operation, [])
    assert not findings, "\n\n".join(map(str, findings))


async def test_stranger_has_tried_all_there_is(tried: Tried, note: Note) -> None:
    assert tried.statuses.keys() == set(NAMES)
    assert not tried.errors, tried.errors
    counted = [statuses.total() for statuses in tried.statuses.values()]
    note(
        f"{sizes.EXAMPLES} examples of an operation, and its bounds",
        operations=len(counted),
        requests=sum(counted),
        fewest_of_an_operation=min(counted),
        findings=sum(map(len, tried.findings.values())),
        answers_over_500=tried.broken(),
        done_or_refused_by_a_rule=f"{tried.share_within:.0%} of what is allowed",
    )


async def test_stranger_has_been_behind_every_door(tried: Tried) -> None:
    sys.stdout.write(tried.table())  # with `-rP` pytest shows it
    assert [each for each in tried.unreached() if EMPTY not in each] == []


async def test_who_is_not_signed_in_has_been_sent_away_from_every_door_but_the_open_ones(
    tried: Tried,
) -> None:
    for operation in operations():
        sent_away = 401 in tried.statuses[str(operation)]
        assert sent_away or operation.is_public, operation


async def test_most_of_what_is_allowed_is_done_or_refused_by_a_rule(tried: Tried) -> None:
    assert tried.share_within >= MOST, tried.table()

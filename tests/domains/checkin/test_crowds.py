"""Many who arrive at once: gapless tickets, true places, and nobody who waits for each other."""

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from cliniq.domains.queue import service as queue_service
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.domains.checkin.traces import times, traces
from tests.domains.conftest import Build
from tests.domains.storms import deadlocks
from tests.support import NOON, Admin, Client, SomeClinic, Someone, found_clinic

MINUTE = timedelta(minutes=1)
ARRIVALS, FAMILIES = 100, 40


async def fresh_ranks(admin: Admin, clinic: SomeClinic) -> dict[str, int]:
    """Everybody's place by the promised order, counted anew: priority, due, ticket."""
    rows = await admin.fetch(
        "select entry_id, queue_id, priority, due_at, ticket from queue_entry"
        " where clinic_id = $1 and status = 'waiting'",
        clinic.clinic_id,
    )
    ranks: dict[str, int] = {}
    lines: dict[Any, list[Any]] = {}
    for row in rows:
        lines.setdefault(row["queue_id"], []).append(row)
    for line in lines.values():
        line.sort(key=lambda row: (-row["priority"], row["due_at"], row["ticket"]))
        ranks |= {str(row["entry_id"]): place for place, row in enumerate(line, start=1)}
    return ranks


async def test_hundred_arrivals_get_tickets_without_a_gap_and_places_that_are_true(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    arrivals: list[Someone] = []
    for number in range(ARRIVALS):  # some late, most on time, none in the order of arrival
        someone, patient = await clinic.signed_in_patient()
        start = NOON + (number * 37 % ARRIVALS - 70) * MINUTE
        await clinic.book(patient, start, minutes=1)
        arrivals.append(someone)
    answers = await asyncio.gather(*(clinic.scan(client, each) for each in arrivals))
    receipts = [answer.json()["check_ins"][0] for answer in answers]
    assert len({each["queue_id"] for each in receipts}) == 1
    assert sorted(each["ticket"] for each in receipts) == list(range(1, ARRIVALS + 1))
    assert await traces(admin, clinic) == times(ARRIVALS)

    ranks = await fresh_ranks(admin, clinic)
    assert sorted(ranks.values()) == list(range(1, ARRIVALS + 1))
    for someone, receipt in zip(arrivals, receipts, strict=True):
        (place,) = (await client.get("/api/v1/me/queue", headers=someone.headers)).json()
        assert place["entry_id"] == receipt["entry_id"]
        assert place["position"] == ranks[place["entry_id"]]
    late = {
        str(row["entry_id"])
        for row in await admin.fetch(
            "select entry_id from queue_entry where clinic_id = $1 and due_at = $2",
            clinic.clinic_id,
            NOON,
        )
    }
    assert len(late) == 71
    assert {ranks[each] for each in late} == set(range(1, 72))


async def test_each_arrival_is_told_its_place_at_that_moment(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    for minutes in (20, 5, 29, -40, 10, 0, -20):
        someone, patient = await clinic.signed_in_patient()
        await clinic.book(patient, NOON + minutes * MINUTE, minutes=1)
        (receipt,) = (await clinic.scan(client, someone)).json()["check_ins"]
        ranks = await fresh_ranks(admin, clinic)
        assert receipt["position"] == ranks[receipt["entry_id"]]


async def families(clinic: SomeClinic, count: int = FAMILIES) -> list[Someone]:
    """Parents with a visit in either of two queues, booked in either order."""
    doctors = [clinic.practitioner_id, await clinic.practitioner()]
    parents = []
    for number in range(count):
        parent, own = await clinic.signed_in_patient()
        child = await clinic.dependant(parent)
        order = [(own, doctors[0]), (child, doctors[1])]
        for who, doctor in order if number % 2 else order[::-1]:
            start = NOON + (number - 30) * MINUTE
            await clinic.book(who, start, minutes=1, practitioner_id=doctor)
        parents.append(parent)
    return parents


async def storm(client: Client, clinic: SomeClinic, parents: list[Someone]) -> list[Any]:
    return await asyncio.gather(*(clinic.scan(client, each, all=True) for each in parents))


async def test_families_with_visits_in_the_same_two_queues_never_wait_for_each_other(
    urls: Urls, admin: Admin, open_client: Build
) -> None:
    before = await deadlocks(admin)
    async with house_of(urls, size=12) as house, open_client(house) as client:
        clinic = await found_clinic(house)
        answers = await storm(client, clinic, await families(clinic))
    assert {answer.status_code for answer in answers} == {200}
    receipts = [each for answer in answers for each in answer.json()["check_ins"]]
    for queue_id in {each["queue_id"] for each in receipts}:
        tickets = [each["ticket"] for each in receipts if each["queue_id"] == queue_id]
        assert sorted(tickets) == list(range(1, FAMILIES + 1))
    assert await traces(admin, clinic) == times(2 * FAMILIES)
    assert await deadlocks(admin) == before


async def test_families_who_join_in_their_own_order_do_wait_for_each_other(
    own_urls: Urls, own_admin: Admin, open_client: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sin, planted: without one order for all, the storm above is noticed."""
    name = await own_admin.fetchval("select current_database()")
    await own_admin.execute(f"alter database {name} set deadlock_timeout = '50ms'")
    monkeypatch.setattr(queue_service, "sorted", lambda each, key: list(each), raising=False)  # noqa: ARG005
    async with house_of(own_urls, size=12) as house, open_client(house) as client:
        clinic = await found_clinic(house)
        answers = await storm(client, clinic, await families(clinic, 12))
    assert 503 in {answer.status_code for answer in answers}
    assert await deadlocks(own_admin) > 0


async def test_versions_of_a_queue_follow_each_other_without_a_gap(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    await storm(client, clinic, await families(clinic))
    told = await admin.fetch(
        "select topic, version from outbox where clinic_id = $1 and topic <> ''"
        " order by topic, outbox_id",
        clinic.clinic_id,
    )
    for (topic, version), (next_topic, next_version) in pairwise(told):
        assert next_version == (version + 1 if topic == next_topic else 1)
    assert len(told) == 2 * FAMILIES

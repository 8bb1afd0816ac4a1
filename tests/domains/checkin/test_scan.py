"""A scan, as the wire sees it: first the refusals, then the ticket."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from cliniq.app import House
from cliniq.domains.appointments import api as appointments
from cliniq.domains.checkin import service
from cliniq.domains.checkin.api import Code, CodeKind
from cliniq.domains.queue import api as queue
from cliniq.kernel.ids import new_id
from tests.domains.checkin.traces import NOTHING, everything, times, traces
from tests.support import (
    NOON,
    Admin,
    Client,
    Hands,
    SomeClinic,
    Someone,
    SomePatient,
    found_clinic,
)

MINUTES = timedelta(minutes=1)


async def refused(client: Client, clinic: SomeClinic, someone: Someone, **body: object) -> Any:
    """A scan that is refused; what it says."""
    answer = await clinic.scan(client, someone, **body)
    assert answer.status_code >= 400, answer.text
    return answer.json()


async def accepted(client: Client, clinic: SomeClinic, someone: Someone, **body: object) -> Any:
    """A scan that is accepted; what it says."""
    answer = await clinic.scan(client, someone, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(rows: list[Any]) -> set[UUID]:
    return {UUID(each["appointment_id"]) for each in rows}


async def advance(clinic: SomeClinic, visit: appointments.Appointment, *steps: str) -> None:
    """Take a visit that waits through steps of the queue."""
    for step in steps:
        async with clinic.unit() as unit:
            (place,) = await queue.list_places_of(unit, [visit.appointment_id])
            if step == "called":
                await queue.call_next(unit, place.queue_id, "7")
            elif step == "in_progress":
                await queue.start(unit, place.entry_id)
            else:
                await queue.complete(unit, place.entry_id)


# Outside the window, elsewhere, nowhere


@pytest.mark.parametrize(
    ("starts_in", "code"),
    [
        (timedelta(hours=3), "CHECKIN_TOO_EARLY"),
        (timedelta(minutes=30, seconds=1), "CHECKIN_TOO_EARLY"),
        (timedelta(hours=-2, seconds=-1), "APPOINTMENT_EXPIRED"),
        (timedelta(days=3), "NO_APPOINTMENT_FOUND"),
    ],
)
async def test_patient_outside_the_window_is_refused(
    client: Client, clinic: SomeClinic, admin: Admin, starts_in: timedelta, code: str
) -> None:
    someone, _, _ = await clinic.visit(NOON + starts_in)
    assert (await refused(client, clinic, someone))["code"] == code
    assert await traces(admin, clinic) == NOTHING


async def test_patient_who_is_early_or_late_learns_when_the_window_opens_or_closed(
    client: Client, clinic: SomeClinic
) -> None:
    early, _, soon = await clinic.visit(NOON + 45 * MINUTES)
    late, _, gone = await clinic.visit(NOON - 121 * MINUTES)
    said = await refused(client, clinic, early)
    assert datetime.fromisoformat(said["opens_at"]) == soon.starts_at - 30 * MINUTES
    said = await refused(client, clinic, late)
    assert datetime.fromisoformat(said["closed_at"]) == gone.starts_at + 120 * MINUTES


async def test_patient_at_the_wrong_site_is_shown_the_right_one(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone, patient = await clinic.signed_in_patient()
    facts = {"name": "North", "address": "Hill 9", "directions_url": "https://maps.example/9"}
    north = await clinic.add_site(**facts)
    await clinic.book(patient, site_id=north.site_id)
    said = await refused(client, clinic, someone)
    assert said["code"] == "WRONG_LOCATION"
    assert said["status"] == 409
    assert (said["site_name"], said["address"], said["directions_url"]) == tuple(facts.values())
    assert await traces(admin, clinic) == NOTHING
    point = await clinic.add_point(north)
    assert await accepted(client, clinic, someone, code=clinic.code(point=point))


async def test_patient_who_waits_at_one_site_is_sent_back_from_another(
    client: Client, clinic: SomeClinic
) -> None:
    someone, _, _ = await clinic.visit()
    await accepted(client, clinic, someone)
    point = await clinic.add_point(await clinic.add_site(name="North"))
    said = await refused(client, clinic, someone, code=clinic.code(point=point))
    assert (said["code"], said["site_name"]) == ("WRONG_LOCATION", "Main")


async def test_patient_without_a_visit_today_learns_of_their_own_next_one(
    client: Client, clinic: SomeClinic
) -> None:
    someone, patient = await clinic.signed_in_patient()
    assert (await refused(client, clinic, someone))["next_at"] is None
    later = await clinic.book(patient, NOON + timedelta(days=9))
    sooner = await clinic.book(patient, NOON + timedelta(days=4))
    cancelled = await clinic.book(patient, NOON + timedelta(days=2))
    async with clinic.unit() as unit:
        await appointments.cancel(unit, cancelled.appointment_id, "")
    said = await refused(client, clinic, someone)
    assert (said["code"], said["status"]) == ("NO_APPOINTMENT_FOUND", 404)
    assert datetime.fromisoformat(said["next_at"]) == sooner.starts_at < later.starts_at


async def test_stranger_learns_nothing_of_the_clinic_s_visits(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    elsewhere = await found_clinic(house)
    await clinic.visit(NOON + timedelta(days=3))
    stranger, _, _ = await elsewhere.visit(NOON + timedelta(days=3))
    for someone in (stranger, clinic.doctor, clinic.receptionist):
        said = await refused(client, clinic, someone)
        assert (said["code"], said["next_at"]) == ("NO_APPOINTMENT_FOUND", None)


async def test_patient_whose_visit_was_cancelled_has_none(
    client: Client, clinic: SomeClinic
) -> None:
    someone, _, visit = await clinic.visit()
    async with clinic.unit() as unit:
        await appointments.cancel(unit, visit.appointment_id, "")
    assert (await refused(client, clinic, someone))["code"] == "NO_APPOINTMENT_FOUND"


# What can still be done comes first


@pytest.mark.parametrize(
    ("here", "there", "code"),
    [
        (60, 0, "WRONG_LOCATION"),  # now elsewhere, later here
        (60, 45, "CHECKIN_TOO_EARLY"),  # later elsewhere, later here
        (None, 0, "WRONG_LOCATION"),
        (-121, 0, "WRONG_LOCATION"),
        (-121, 60, "WRONG_LOCATION"),
        (60, -121, "CHECKIN_TOO_EARLY"),
        (-121, -123, "APPOINTMENT_EXPIRED"),
    ],
)
async def test_of_several_refusals_the_one_that_helps_is_said(
    client: Client, clinic: SomeClinic, here: int | None, there: int, code: str
) -> None:
    someone, patient = await clinic.signed_in_patient()
    north, doctor = await clinic.add_site(name="North"), await clinic.practitioner()
    if here is not None:
        await clinic.book(patient, NOON + here * MINUTES, minutes=1)
    there_at = NOON + there * MINUTES
    await clinic.book(patient, there_at, minutes=1, site_id=north.site_id, practitioner_id=doctor)
    assert (await refused(client, clinic, someone))["code"] == code


# The ticket


async def test_patient_on_time_gets_a_ticket(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone, patient, visit = await clinic.visit()
    said = await accepted(client, clinic, someone)
    assert (said["outcome"], said["others"]) == ("checked_in", [])
    (receipt,) = said["check_ins"]
    assert receipt["appointment_id"] == str(visit.appointment_id)
    assert receipt["patient_id"] == str(patient.patient_id)
    assert (receipt["ticket"], receipt["position"], receipt["already"]) == (1, 1, False)
    assert (receipt["given_name"], receipt["whose"]) == (patient.given_name, "self")
    assert (receipt["line_name"], receipt["room"]) == ("Dr. Who", None)
    assert datetime.fromisoformat(receipt["checked_in_at"]) == NOON
    assert await traces(admin, clinic) == times(1)


@pytest.mark.parametrize("kind", list(CodeKind))
async def test_check_in_remembers_by_which_code_it_came(
    client: Client, clinic: SomeClinic, admin: Admin, hands: Hands, kind: CodeKind
) -> None:
    someone, _, _ = await clinic.visit()
    step = int(hands.wall.timestamp()) // 30 if kind is CodeKind.ROTATING else 0
    await accepted(client, clinic, someone, code=clinic.code(kind, step=step))
    row = await admin.fetchrow(
        "select method, check_in_point_id, actor_id from check_in where clinic_id = $1",
        clinic.clinic_id,
    )
    assert row is not None
    assert tuple(row) == (kind, clinic.point.check_in_point_id, someone.person_id)


async def test_same_scan_again_gets_the_same_ticket_while_the_visit_waits_or_is_called(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone, _, visit = await clinic.visit()
    (first,) = (await accepted(client, clinic, someone))["check_ins"]
    (again,) = (await accepted(client, clinic, someone))["check_ins"]
    assert again == first | {"already": True}
    await advance(clinic, visit, "called")
    (called,) = (await accepted(client, clinic, someone))["check_ins"]
    assert called == again | {"status": "called", "position": 0, "room": "7"}
    assert await traces(admin, clinic) == times(1)


async def test_same_scan_after_the_visit_has_begun_or_ended_is_refused(
    client: Client, clinic: SomeClinic
) -> None:
    someone, _, visit = await clinic.visit()
    await accepted(client, clinic, someone)
    await advance(clinic, visit, "called", "in_progress")
    for steps in ([], ["completed"]):
        await advance(clinic, visit, *steps)
        said = await refused(client, clinic, someone)
        assert (said["code"], said["status"]) == ("ALREADY_CHECKED_IN", 409)
        chosen = [str(visit.appointment_id)]
        said = await refused(client, clinic, someone, appointment_ids=chosen)
        assert said["code"] == "ALREADY_CHECKED_IN"


async def test_patient_with_a_visit_done_is_checked_in_for_the_next(
    client: Client, clinic: SomeClinic
) -> None:
    someone, patient, done = await clinic.visit(NOON - 60 * MINUTES)
    await accepted(client, clinic, someone)
    await advance(clinic, done, "called", "in_progress", "completed")
    following = await clinic.book(patient, NOON + 5 * MINUTES)
    said = await accepted(client, clinic, someone)
    assert ids(said["check_ins"]) == {following.appointment_id}
    assert [(each["appointment_id"], each["verdict"]) for each in said["others"]] == [
        (str(done.appointment_id), "already")
    ]


async def test_hundred_scans_of_one_visit_leave_one_trace(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone, _, _ = await clinic.visit()
    answers = await asyncio.gather(*(clinic.scan(client, someone) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    receipts = [answer.json()["check_ins"][0] for answer in answers]
    assert sum(not receipt.pop("already") for receipt in receipts) == 1
    assert all(receipt == receipts[0] for receipt in receipts)
    assert await traces(admin, clinic) == times(1)


# Families


class Family:
    """A parent with a child, both with a visit now, and another of the child's later."""

    def __init__(self, clinic: SomeClinic, parent: Someone) -> None:
        self.clinic, self.parent = clinic, parent
        self.visits: list[appointments.Appointment] = []
        self.later: appointments.Appointment
        self.own: SomePatient
        self.child: SomePatient

    @property
    def now(self) -> set[UUID]:
        return {each.appointment_id for each in self.visits}


@pytest.fixture
async def family(clinic: SomeClinic) -> Family:
    parent, own = await clinic.signed_in_patient()
    family = Family(clinic, parent)
    family.own, family.child = own, await clinic.dependant(parent)
    family.visits = [
        await clinic.book(own, NOON),
        await clinic.book(family.child, NOON + 15 * MINUTES),
    ]
    family.later = await clinic.book(family.child, NOON + timedelta(hours=4))
    return family


async def test_parent_with_several_visits_is_asked_and_nothing_is_written(
    client: Client, admin: Admin, family: Family
) -> None:
    before = await everything(admin, family.clinic)
    said = await accepted(client, family.clinic, family.parent)
    assert (said["outcome"], said["check_ins"]) == ("choice", [])
    told = {UUID(each["appointment_id"]): each for each in said["others"]}
    assert told.keys() == family.now | {family.later.appointment_id}
    assert {told[each]["verdict"] for each in family.now} == {"eligible"}
    later = told[family.later.appointment_id]
    assert (later["verdict"], later["whose"]) == ("too_early", "dependant")
    assert later["given_name"] == family.child.given_name
    assert datetime.fromisoformat(later["opens_at"]) == family.later.starts_at - 30 * MINUTES
    assert (later["practitioner_name"], later["site_name"]) == ("Dr. Who", "Main")
    assert await everything(admin, family.clinic) == before


async def test_parent_checks_everyone_in_at_once_and_hears_of_what_is_later_or_elsewhere(
    client: Client, admin: Admin, family: Family
) -> None:
    clinic = family.clinic
    north = await clinic.add_site(name="North")
    there = await clinic.book(
        family.own,
        NOON + 20 * MINUTES,
        site_id=north.site_id,
        practitioner_id=await clinic.practitioner(),
    )
    said = await accepted(client, clinic, family.parent, all=True)
    assert said["outcome"] == "checked_in"
    assert ids(said["check_ins"]) == family.now
    assert {each["whose"] for each in said["check_ins"]} == {"self", "dependant"}
    assert {(UUID(each["appointment_id"]), each["verdict"]) for each in said["others"]} == {
        (family.later.appointment_id, "too_early"),
        (there.appointment_id, "wrong_location"),
    }
    assert await traces(admin, clinic) == times(2)
    xmins = await admin.fetch(
        "select distinct xmin from check_in where clinic_id = $1", clinic.clinic_id
    )
    assert len(xmins) == 1


async def test_everyone_again_gets_the_same_tickets(client: Client, family: Family) -> None:
    first = await accepted(client, family.clinic, family.parent, all=True)
    again = await accepted(client, family.clinic, family.parent)
    assert {each["already"] for each in again["check_ins"]} == {True}
    tickets = [
        {each["appointment_id"]: each["ticket"] for each in said["check_ins"]}
        for said in (first, again)
    ]
    assert tickets[0] == tickets[1]


async def test_family_in_one_queue_is_told_the_places_that_it_really_has(
    client: Client, clinic: SomeClinic
) -> None:
    """Whoever was booked first need not be the first to be seen."""
    parent, own = await clinic.signed_in_patient()
    child = await clinic.dependant(parent)
    for minutes, who in ((25, own), (10, child), (20, own), (5, child)):
        await clinic.book(who, NOON + minutes * MINUTES, minutes=5)
    said = await accepted(client, clinic, parent, all=True)
    for receipt in said["check_ins"]:
        path = f"/api/v1/queues/{receipt['queue_id']}/entries/{receipt['entry_id']}"
        place = (await client.get(path, headers=clinic.acting(parent))).json()
        assert receipt["position"] == place["position"], receipt
    assert sorted(each["position"] for each in said["check_ins"]) == [1, 2, 3, 4]


async def test_parent_chooses_one_visit_and_the_other_waits_for_another_scan(
    client: Client, admin: Admin, family: Family
) -> None:
    mine, childs = (str(each.appointment_id) for each in family.visits)
    said = await accepted(client, family.clinic, family.parent, appointment_ids=[childs, childs])
    assert [each["appointment_id"] for each in said["check_ins"]] == [childs]
    assert mine in {each["appointment_id"] for each in said["others"]}
    assert await traces(admin, family.clinic) == times(1)
    rest = await accepted(client, family.clinic, family.parent)
    assert {each["appointment_id"]: each["already"] for each in rest["check_ins"]} == {
        mine: False,
        childs: True,
    }


async def test_choice_of_a_visit_that_is_not_one_s_own_is_refused_and_nothing_is_written(
    client: Client, house: House, admin: Admin, family: Family
) -> None:
    clinic = family.clinic
    _, _, strangers = await clinic.visit(NOON + timedelta(hours=1, minutes=30))
    _, _, foreign = await (await found_clinic(house)).visit()
    mine = family.visits[0].appointment_id
    before = await everything(admin, clinic)
    for other in (strangers.appointment_id, foreign.appointment_id, new_id()):
        for chosen in ([other], [mine, other]):
            said = await refused(
                client, clinic, family.parent, appointment_ids=[str(each) for each in chosen]
            )
            assert (said["code"], said["status"]) == ("APPOINTMENT_NOT_FOUND", 404)
    assert await everything(admin, clinic) == before


async def test_choice_of_visits_that_cannot_be_checked_in_is_refused_with_the_reason(
    client: Client, admin: Admin, family: Family
) -> None:
    chosen = [str(family.later.appointment_id)]
    before = await everything(admin, family.clinic)
    said = await refused(client, family.clinic, family.parent, appointment_ids=chosen)
    assert said["code"] == "CHECKIN_TOO_EARLY"
    assert datetime.fromisoformat(said["opens_at"]) == family.later.starts_at - 30 * MINUTES
    assert await everything(admin, family.clinic) == before


@pytest.mark.parametrize(
    "body",
    [
        {"all": True, "appointment_ids": [str(new_id())]},
        {"appointment_ids": []},
        {"appointment_ids": [str(new_id())] * 21},
        {"appointment_ids": ["x"]},
        {"all": "yes"},
        {"everyone": True},
        {"code": None},
        {"code": ""},
        {"code": "a b"},
        {"code": "A" * 201},
        {"scan_pass": "A"},
        {"code": None, "scan_pass": "A", "scan_secret": "short"},
    ],
)
async def test_scan_that_is_malformed_is_refused(
    client: Client, clinic: SomeClinic, admin: Admin, body: dict[str, object]
) -> None:
    someone, _, _ = await clinic.visit()
    said = await refused(client, clinic, someone, **body)
    assert (said["code"], said["status"]) == ("REQUEST_INVALID", 422)
    assert await traces(admin, clinic) == NOTHING


async def test_guardian_whose_guardianship_ended_no_longer_sees_the_child(
    client: Client, family: Family
) -> None:
    clinic = family.clinic
    async with clinic.unit() as unit:
        await unit.connection.execute(
            "update guardianship set ended_at = $1 where patient_id = $2",
            NOON,
            family.child.patient_id,
        )
    childs = [str(family.visits[1].appointment_id)]
    said = await refused(client, clinic, family.parent, appointment_ids=childs)
    assert said["code"] == "APPOINTMENT_NOT_FOUND"
    said = await accepted(client, clinic, family.parent)
    assert ids(said["check_ins"]) == {family.visits[0].appointment_id}
    assert said["others"] == []
    for path in ("/api/v1/me/appointments", "/api/v1/me/dependants", "/api/v1/me/queue"):
        seen = (await client.get(path, headers=family.parent.headers)).text
        assert str(family.child.patient_id) not in seen


async def test_guardian_in_one_clinic_is_nobody_in_another(
    client: Client, house: House, family: Family
) -> None:
    other = await found_clinic(house)
    own = await other.patient(family.parent)
    childs = await other.book(await other.patient(), NOON)
    await other.book(own, NOON + 15 * MINUTES)
    said = await refused(client, other, family.parent, appointment_ids=[str(childs.appointment_id)])
    assert said["code"] == "APPOINTMENT_NOT_FOUND"
    said = await accepted(client, other, family.parent)
    assert {each["clinic_id"] for each in said["check_ins"]} == {str(other.clinic_id)}


# Rivals


async def test_scan_meets_a_rival_who_has_just_begun_the_child_s_visit(
    clinic: SomeClinic, monkeypatch: pytest.MonkeyPatch, family: Family
) -> None:
    """The parent's own check-in stands although the child is called in meanwhile."""
    mine, childs = family.visits
    code = Code(CodeKind.PRINTED, clinic.clinic_id, clinic.point.check_in_point_id, 1, 0)
    async with clinic.own_unit(family.parent) as unit:
        await service.scan(unit, code, chosen=[childs.appointment_id])
    look = service._look  # noqa: SLF001

    async def dawdle(*args: Any) -> Any:
        seen = await look(*args)
        await advance(clinic, childs, "called", "in_progress")
        return seen

    monkeypatch.setattr(service, "_look", dawdle)
    async with clinic.own_unit(family.parent) as unit:
        result = await service.scan(unit, code, everyone=True)
    assert [each.appointment_id for each in result.check_ins] == [mine.appointment_id]


async def test_scan_meets_a_rival_who_has_just_cancelled_the_visit(
    clinic: SomeClinic, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    someone, _, visit = await clinic.visit()
    look = service._look  # noqa: SLF001

    async def dawdle(*args: Any) -> Any:
        seen = await look(*args)
        async with clinic.unit() as unit:
            await appointments.cancel(unit, visit.appointment_id, "")
        return seen

    monkeypatch.setattr(service, "_look", dawdle)
    code = Code(CodeKind.PRINTED, clinic.clinic_id, clinic.point.check_in_point_id, 1, 0)
    with pytest.raises(appointments.StaleVersion):
        async with clinic.own_unit(someone) as unit:
            await service.scan(unit, code)
    assert await traces(admin, clinic) == NOTHING

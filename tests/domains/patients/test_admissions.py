"""Many are admitted at once, as if one after the other; whom the clinic knows is not made again."""

import asyncio
from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

import pytest

from cliniq.app import House
from cliniq.domains.patients import api as patients
from cliniq.domains.patients.rules import highest_number, sort_out
from cliniq.kernel.ids import new_id
from cliniq.kernel.scope import WorkScope
from cliniq.platform.db import open_unit
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.support import Admin, SomeClinic, found_clinic

Outcome = patients.Outcome
CARD, PASS = "urn:cards", "urn:passes"


def newcomer(
    *numbers: tuple[str, str],
    mrn: str | None = None,
    name: str = "Ann",
    family: str = "Tester",
    born: int | None = None,
) -> Any:
    identifiers = [patients.Identifier(*each) for each in numbers]
    birth_date = date(born, 5, 5) if born else None
    return patients.Newcomer(name, family, birth_date, mrn=mrn, identifiers=identifiers)


async def admit(clinic: SomeClinic, *newcomers: patients.Newcomer) -> list[patients.Admission]:
    async with clinic.unit() as unit:
        return await patients.admit_all(unit, newcomers)


async def count(admin: Admin, clinic: SomeClinic) -> dict[str, int]:
    """What a clinic has of patients; and the persons whom they are."""
    tables = ("patient", "patient_identifier", "outbox", "audit")
    found = {
        table: await admin.fetchval(
            f"select count(*) from {table} where clinic_id = $1"  # noqa: S608
            + (" and kind like 'patients.%'" if table == "outbox" else "")
            + (" and action like 'patients.%'" if table == "audit" else ""),
            clinic.clinic_id,
        )
        for table in tables
    }
    persons = "select count(*) from person join patient using (person_id) where clinic_id = $1"
    return found | {"person": await admin.fetchval(persons, clinic.clinic_id)}


def outcomes(admissions: Sequence[patients.Admission]) -> list[str]:
    return [str(each.outcome) for each in admissions]


# Decided


FACES = {UUID(int=number): newcomer(born=1980) for number in (1, 2)}
KNOWN = {(CARD, "1"): UUID(int=1), (CARD, "2"): UUID(int=2), (None, "77"): UUID(int=1)}


@pytest.mark.parametrize(
    ("newcomers", "expected"),
    [
        ([newcomer((CARD, "1"))], ["known"]),
        ([newcomer(mrn="77")], ["known"]),
        ([newcomer((CARD, "1"), (PASS, "x"), mrn="77")], ["known"]),
        ([newcomer((CARD, "1"), (CARD, "2"))], ["conflict"]),
        ([newcomer((CARD, "2"), mrn="77")], ["conflict"]),
        ([newcomer((PASS, "1"))], ["admitted"]),
        ([newcomer(), newcomer()], ["admitted", "admitted"]),
        ([newcomer((PASS, "1")), newcomer((PASS, "1"))], ["admitted", "twin"]),
        ([newcomer(mrn="5"), newcomer(mrn="5")], ["admitted", "twin"]),
        ([newcomer(mrn="5"), newcomer(mrn="6")], ["admitted", "admitted"]),
        # What a twin or a conflict brings beside is nobody's.
        (
            [newcomer((PASS, "1")), newcomer((PASS, "1"), (PASS, "2")), newcomer((PASS, "2"))],
            ["admitted", "twin", "admitted"],
        ),
        (
            [newcomer((CARD, "1"), (CARD, "2"), (PASS, "3")), newcomer((PASS, "3"))],
            ["conflict", "admitted"],
        ),
        # A number that was given to somebody else is no proof.
        ([newcomer((CARD, "1"), born=1980, family="Married")], ["known"]),
        ([newcomer((CARD, "1"), born=1981)], ["conflict"]),
        ([newcomer((CARD, "1"), family="Else")], ["conflict"]),
        ([newcomer((CARD, "1"), family="TESTER")], ["known"]),
        ([newcomer((PASS, "1"), born=1980), newcomer((PASS, "1"), born=1990)],
         ["admitted", "conflict"]),
        # Two who came before, and one who claims to be both; or one before and one long known.
        ([newcomer((PASS, "1")), newcomer((PASS, "2")), newcomer((PASS, "1"), (PASS, "2"))],
         ["admitted", "admitted", "conflict"]),
        ([newcomer((PASS, "1")), newcomer((PASS, "1"), (CARD, "1"))], ["admitted", "conflict"]),
    ],
)  # fmt: skip
def test_newcomer_is_judged_as_if_those_before_were_admitted(
    newcomers: list[patients.Newcomer], expected: list[str]
) -> None:
    ids = [new_id() for _ in newcomers]
    admissions = sort_out(newcomers, KNOWN, FACES, ids)
    assert outcomes(admissions) == expected
    for place, each in enumerate(admissions):
        match each.outcome:
            case Outcome.ADMITTED:
                assert each.patient_id == ids[place]
            case Outcome.TWIN:
                assert each.patient_id in ids[:place]
            case Outcome.KNOWN:
                assert each.patient_id in KNOWN.values()
            case Outcome.CONFLICT:
                assert each.patient_id is None


def test_only_numbers_that_the_roll_could_draw_push_it() -> None:
    given = [None, "", "0", "007", "12", "9 9", "1" * 19, "A-900", "٣٣", "-5", "+77", "3"]
    assert highest_number(given) == 12
    assert highest_number([]) == highest_number([None]) == 0


# Written


async def test_more_than_are_taken_at_once_are_refused(clinic: SomeClinic, admin: Admin) -> None:
    with pytest.raises(ValueError, match="5000"):
        await admit(clinic, *[newcomer()] * (patients.AT_ONCE + 1))
    assert set((await count(admin, clinic)).values()) == {0}


async def test_newcomers_are_written_with_all_that_they_bring(
    clinic: SomeClinic, admin: Admin
) -> None:
    full = patients.Newcomer(
        "Zoë",
        "Ångström",
        date(1990, 2, 3),
        patients.Gender.OTHER,
        "(0) 12/34 ask for Zoë",
        "zoe@example",
        "Kärntner Straße 1, 1010 Wien",
        "de-AT",
        date(2020, 1, 1),
        None,
        [patients.Identifier(CARD, "1", "SS"), patients.Identifier(CARD, "1", "MR")],
    )
    admissions = await admit(clinic, full, newcomer(mrn="X 1"))
    assert outcomes(admissions) == ["admitted", "admitted"]
    first, second = [each.patient_id for each in admissions]
    assert first
    assert second
    async with clinic.unit() as unit:
        found = await patients.get_patient(unit, first)
        assert (await patients.get_patient(unit, second)).mrn == "X 1"
    assert found == patients.Patient(
        first,
        found.person_id,
        "Zoë",
        "Ångström",
        date(1990, 2, 3),
        patients.Gender.OTHER,
        "(0) 12/34 ask for Zoë",
        "zoe@example",
        "Kärntner Straße 1, 1010 Wien",
        "de-AT",
        date(2020, 1, 1),
        "1",
    )
    person = await admin.fetchrow("select * from person where person_id = $1", found.person_id)
    assert person is not None
    assert tuple(person) == (found.person_id, "Zoë", "Ångström", date(1990, 2, 3), "de-AT")
    numbers = await admin.fetch(
        "select system, value, kind from patient_identifier where patient_id = $1", first
    )
    assert [tuple(each) for each in numbers] == [(CARD, "1", "SS")]
    assert await count(admin, clinic) == {
        "patient": 2,
        "person": 2,
        "patient_identifier": 1,
        "outbox": 2,
        "audit": 2,
    }
    told = await admin.fetchval("select body::text from outbox where subject_id = $1", first)
    assert str(first) in told
    assert "Zo" not in told


async def test_whom_the_clinic_knows_is_answered_and_nothing_is_written(
    clinic: SomeClinic, admin: Admin
) -> None:
    first, other = await admit(clinic, newcomer((CARD, "1"), mrn="A"), newcomer((CARD, "2")))
    before = await count(admin, clinic)
    again = await admit(
        clinic,
        newcomer((CARD, "1"), (PASS, "9"), name="Somebody else"),
        newcomer(mrn="A"),
        newcomer((CARD, "1"), (CARD, "2"), mrn="B"),
    )
    assert outcomes(again) == ["known", "known", "conflict"]
    assert [each.patient_id for each in again] == [first.patient_id, first.patient_id, None]
    assert await count(admin, clinic) == before
    async with clinic.unit() as unit:
        assert await patients.find_by_identifiers(unit, CARD, ["1", "2", "3"]) == [
            ("1", first.patient_id),
            ("2", other.patient_id),
        ]
        assert await patients.find_by_identifiers(unit, PASS, ["1", "9"]) == []
        assert await patients.find_by_mrns(unit, ["A", "B"]) == [("A", first.patient_id)]


async def test_numbers_of_another_clinic_are_nobody_s_here(
    clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    (there,) = await admit(other, newcomer((CARD, "1"), mrn="A"))
    (here,) = await admit(clinic, newcomer((CARD, "1"), mrn="A"))
    assert here.outcome is there.outcome is Outcome.ADMITTED
    async with clinic.unit() as unit:
        assert await patients.find_by_identifiers(unit, CARD, ["1"]) == [("1", here.patient_id)]
        assert await patients.find_by_mrns(unit, ["A"]) == [("A", here.patient_id)]


async def test_patient_sees_their_own_numbers_and_nobody_else_s(
    clinic: SomeClinic, admin: Admin
) -> None:
    someone, own = await clinic.signed_in_patient()
    await admit(clinic, newcomer((CARD, "2")))
    number = (
        "insert into patient_identifier (clinic_id, system, value, patient_id)"
        " values ($1, $2, '1', $3)"
    )
    await admin.execute(number, clinic.clinic_id, CARD, own.patient_id)
    async with clinic.own_unit(someone) as unit:
        assert await patients.find_by_identifiers(unit, CARD, ["1", "2"]) == [("1", own.patient_id)]
    with pytest.raises(Exception, match="permission denied"):
        async with clinic.own_unit(someone) as unit:
            await unit.connection.execute(number, clinic.clinic_id, PASS, own.patient_id)


async def test_job_admits_on_nobody_s_behalf(clinic: SomeClinic, house: House) -> None:
    async with open_unit(house.entrance.database, WorkScope(clinic.clinic_id, "import")) as unit:
        (made,) = await patients.admit_all(unit, [newcomer()])
    assert made.outcome is Outcome.ADMITTED


async def test_import_that_fails_leaves_nothing(clinic: SomeClinic, admin: Admin) -> None:
    class Interrupted(Exception):
        pass

    with pytest.raises(Interrupted):
        async with clinic.unit() as unit:
            await patients.admit_all(unit, [newcomer((CARD, "1")), newcomer()])
            raise Interrupted
    assert set((await count(admin, clinic)).values()) == {0}
    assert outcomes(await admit(clinic, newcomer((CARD, "1")))) == ["admitted"]


# Record numbers


async def mrns(clinic: SomeClinic, admissions: Sequence[patients.Admission]) -> list[str]:
    async with clinic.unit() as unit:
        found = [
            await patients.get_patient(unit, each.patient_id)
            for each in admissions
            if each.patient_id
        ]
    return [each.mrn for each in found]


async def test_number_that_a_file_gives_is_never_drawn(clinic: SomeClinic) -> None:
    first = await admit(clinic, newcomer(), newcomer(mrn="3"), newcomer(), newcomer(mrn="007"))
    assert await mrns(clinic, first) == ["4", "3", "5", "007"]
    await clinic.patient()
    second = await admit(clinic, newcomer(mrn="6"), newcomer(mrn="100"), newcomer())
    assert outcomes(second) == ["known", "admitted", "admitted"]
    assert await mrns(clinic, second) == ["6", "100", "101"]


async def test_number_that_is_taken_nevertheless_is_left_out(
    clinic: SomeClinic, admin: Admin
) -> None:
    """No file pushes the roll so far, but a hand may have written anything."""
    await admit(clinic, *[newcomer() for _ in range(3)])
    await admin.execute(
        "update patient set mrn = '5' where clinic_id = $1 and mrn = '2'", clinic.clinic_id
    )
    assert await mrns(clinic, await admit(clinic, newcomer(), newcomer(), newcomer())) == [
        "4",
        "6",
        "7",
    ]


async def test_huge_number_of_a_file_is_kept_and_pushes_nothing(clinic: SomeClinic) -> None:
    huge = "9" * 40
    assert await mrns(clinic, await admit(clinic, newcomer(mrn=huge), newcomer())) == [huge, "1"]


# Side by side


async def test_two_imports_of_the_same_people_at_once_admit_them_once(
    urls: Urls, admin: Admin
) -> None:
    people = [newcomer((CARD, str(number)), (PASS, f"p{number}")) for number in range(40)]
    async with house_of(urls, size=8) as house:
        clinic = await found_clinic(house)
        answers = await asyncio.gather(
            admit(clinic, *people), admit(clinic, *reversed(people)), admit(clinic, *people[::2])
        )
        assert (
            (await count(admin, clinic))["patient"] == (await count(admin, clinic))["person"] == 40
        )
    one, two, _ = answers
    assert [each.patient_id for each in one] == [each.patient_id for each in reversed(two)]
    admitted = [each for answer in answers for each in outcomes(answer) if each == "admitted"]
    assert len(admitted) == 40


async def test_desks_and_imports_at_once_draw_each_number_once(urls: Urls, admin: Admin) -> None:
    async with house_of(urls, size=8) as house:
        clinic = await found_clinic(house)
        await asyncio.gather(
            *[clinic.patient() for _ in range(10)],
            *[admit(clinic, *[newcomer()] * 10) for _ in range(3)],
        )
    drawn = await admin.fetch("select mrn from patient where clinic_id = $1", clinic.clinic_id)
    assert sorted(int(each["mrn"]) for each in drawn) == list(range(1, 41))

"""An import as a whole: row by row explained, batch by batch written, resumed where it was cut."""

import asyncio
import json
import os
import signal
import sys
import tarfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cliniq.app import House, tools_of
from cliniq.cli import sources
from cliniq.domains.intake import api as intake
from cliniq.domains.intake import jobs, service
from cliniq.domains.intake.errors import ImportDone, ImportRunning
from cliniq.domains.intake.models import Kept
from cliniq.domains.patients import api as patients
from cliniq.kernel.ids import new_id
from cliniq.kernel.scope import WorkScope
from cliniq.platform.db import Opening, Unit, open_unit
from tests.support import Admin, Client, SomeClinic, found_clinic

DATA = Path(__file__).parents[4] / "shared" / "data"
PATIENTS, VISITS = intake.ImportKind.PATIENTS, intake.ImportKind.APPOINTMENTS
TABLES = (
    "patient patient_identifier appointment appointment_history appointment_reference booking"
    " claim import_remark"
).split()


class Desk:
    """Imports into one clinic."""

    def __init__(self, house: House, clinic: SomeClinic) -> None:
        self.house, self.clinic = house, clinic
        self.heard: list[intake.ImportRun] = []

    def opened(self) -> Opening[Unit]:
        return open_unit(self.house.entrance.database, WorkScope(self.clinic.clinic_id, "import"))

    async def told(self, run: intake.ImportRun) -> None:
        self.heard.append(run)

    async def bring(
        self,
        source: Path,
        kind: intake.ImportKind = PATIENTS,
        reading: intake.Reading | None = None,
        *,
        again: bool = False,
    ) -> intake.ImportRun:
        reading, paths = reading or intake.Reading(), sources.list_paths(source)
        delivery = intake.Delivery(
            kind,
            intake.source_of(source.name, kind, reading, sources.contents(source, paths)),
            reading,
            sources.open_files(source, paths),
            again,
        )
        database = self.house.entrance.database
        return await intake.bring_in(self.opened, database, delivery, self.told)

    async def remarks(self, run: intake.ImportRun) -> list[intake.Remark]:
        async with self.opened() as unit:
            return await intake.list_remarks(unit, run.import_id, -1, 0, 10_000)


@pytest.fixture
def desk(house: House, clinic: SomeClinic) -> Desk:
    return Desk(house, clinic)


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def counts(run: intake.ImportRun) -> dict[str, int]:
    return {name: getattr(run, name) for name in ("read", "written", "known", "refused", "skipped")}


async def left(admin: Admin, clinic: SomeClinic) -> dict[str, int]:
    return {
        table: await admin.fetchval(
            f"select count(*) from {table} where clinic_id = $1",  # noqa: S608
            clinic.clinic_id,
        )
        for table in TABLES
    }


# --- patients -------------------------------------------------------------------------------------


async def test_source_of_which_nothing_can_be_read_is_refused_and_leaves_nothing(
    desk: Desk, admin: Admin, tmp_path: Path
) -> None:
    run = await desk.bring(write(tmp_path, "people.csv", "name,born", "Ann,1990-01-01"))
    assert (run.state, counts(run)["refused"]) == ("refused", 1)
    (remark,) = await desk.remarks(run)
    assert (remark.line, remark.code) == (1, "COLUMNS_WRONG")
    assert remark.reason == "no column for family_name"
    assert (await left(admin, desk.clinic))["patient"] == 0


async def test_rows_are_taken_or_explained_one_by_one(
    desk: Desk, admin: Admin, tmp_path: Path
) -> None:
    reading = intake.Reading(identifiers=[intake.IdentifierColumn("card", "urn:cards")])
    source = write(
        tmp_path,
        "people.csv",
        "given_name,family_name,birth_date,card,mrn",
        "Ann,Tester,1990-01-01,1,",
        "Ben,Tester,1990-13-01,2,",
        "Ann,Tester,1990-01-01,1,",
        "Cem,Else,1970-01-01,1,",
        "=Dan,,1990-01-01,4,",
        "Eve,Tester,,,E5",
    )
    run = await desk.bring(source, reading=reading)
    assert run.state == "completed"
    assert counts(run) == {"read": 6, "written": 2, "known": 1, "refused": 3, "skipped": 0}
    remarks = await desk.remarks(run)
    assert [(each.line, each.column, each.code) for each in remarks] == [
        (3, "birth_date", "VALUE_INVALID"),
        (4, None, "PATIENT_TWIN"),
        (5, None, "NUMBERS_CONFLICT"),
        (6, "given_name", "FORMULA_FOUND"),
        (6, "family_name", "VALUE_MISSING"),
    ]
    assert [each.part for each in remarks] == [0, 0, 0, 0, 1]
    with pytest.raises(ImportDone):
        await desk.bring(source, reading=reading)
    again = await desk.bring(source, reading=reading, again=True)
    assert again.import_id != run.import_id
    assert counts(again) == {"read": 6, "written": 0, "known": 3, "refused": 3, "skipped": 0}
    assert (await left(admin, desk.clinic))["patient"] == 2


async def test_one_source_is_imported_by_one_at_a_time(
    desk: Desk, house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, admin: Admin
) -> None:
    monkeypatch.setattr(service, "BATCH", 5)
    rows = [f"Ann{number},Tester,{number}" for number in range(100)]
    source = write(tmp_path, "people.csv", "given_name,family_name,mrn", *rows)
    rivals = [Desk(house, desk.clinic) for _ in range(4)]
    answers = await asyncio.gather(*(each.bring(source) for each in rivals), return_exceptions=True)
    done = [each for each in answers if isinstance(each, intake.ImportRun)]
    lost = [each for each in answers if not isinstance(each, intake.ImportRun)]
    assert done
    assert {type(each) for each in lost} <= {ImportRunning, ImportDone}
    left_over = await left(admin, desk.clinic)
    assert left_over["patient"] == 100
    assert {each.written for each in done} <= {100, 0}


@pytest.mark.skipif(not DATA.exists(), reason="the sample data are not here")
@pytest.mark.parametrize("bundles", [False, True])
async def test_patients_of_synthea_are_all_taken_or_explained(desk: Desk, *, bundles: bool) -> None:
    name = "synthea-r4-100-transaction-bundles" if bundles else "synthea-bulk-1000-patients"
    archive = DATA / "synthea" / f"{name}.tar.gz"
    wanted = [patient async for patient in patients_in(archive)]
    assert len(wanted) == (100 if bundles else 1144)
    run = await desk.bring(archive)
    remarks = Counter(each.code for each in await desk.remarks(run))
    foreign = 0 if bundles else 4  # lines of the export's own log, which are no resources
    conflicts, twins = contested(wanted)
    assert remarks == Counter(
        {
            code: count
            for code, count in (
                ("NUMBERS_CONFLICT", conflicts),
                ("PATIENT_TWIN", twins),
                ("VALUE_MISSING", foreign),
            )
            if count
        }
    )
    assert run.written == len(wanted) - conflicts - twins
    assert run.read == run.written + run.known + run.refused + run.skipped
    async with desk.opened() as unit:
        for patient in wanted[:20]:
            number = patient["identifier"][0]
            found = await patients.find_by_identifiers(unit, number["system"], [number["value"]])
            (here,) = await patients.find_patients(unit, [found[0][1]])
            assert str(here.birth_date) == patient["birthDate"]
            assert here.family_name == official(patient)["family"]


async def patients_in(archive: Path) -> AsyncIterator[Any]:
    """Every Patient of an archive, read in another way."""
    with tarfile.open(archive) as opened:
        for member in opened.getmembers():
            file = opened.extractfile(member)
            if file is None:
                continue
            if member.name.endswith(".json"):
                documents = [json.load(file)]
            else:
                documents = [json.loads(line) for line in file if b'"Patient"' in line]
            for each in documents:
                inside = [entry["resource"] for entry in each.get("entry", [])] or [each]
                for one in inside:
                    if one.get("resourceType") == "Patient":
                        yield one


def official(patient: Any) -> Any:
    return next(each for each in patient["name"] if each.get("use") == "official")


def contested(everybody: Sequence[Any]) -> tuple[int, int]:
    """How many have a number of somebody before them: who is another, and who is the same."""
    owners: dict[tuple[str, str], str] = {}
    conflicts = twins = 0
    for each in everybody:
        keys = [(one["system"], one["value"]) for one in each["identifier"] if "system" in one]
        known = {owners[key] for key in keys if key in owners}
        if known == {each["birthDate"]}:
            twins += 1
        elif known:
            conflicts += 1
        else:
            owners |= dict.fromkeys(keys, each["birthDate"])
    return conflicts, twins


# --- visits ---------------------------------------------------------------------------------------

HEAD = "reference,patient,practitioner,site,starts_at,minutes,status,booked_at"


async def test_visits_are_taken_or_explained_one_by_one(
    desk: Desk, admin: Admin, tmp_path: Path
) -> None:
    clinic = desk.clinic
    await desk.bring(
        write(tmp_path, "p.csv", "given_name,family_name,mrn", "Ann,Tester,A", "Ben,Tester,B")
    )
    who = f"Dr. Who,{clinic.site.name}"
    source = write(
        tmp_path,
        "visits.csv",
        HEAD,
        f"v1,A,{who},2024-05-06T08:00,15,completed,2024-04-01T10:00",
        f"v2,B,{who},2024-05-06T08:10,15,booked,2024-04-01T10:00",
        f"v3,A,{who},2024-05-06T08:20,10,no_show,2024-04-01T10:00",
        f"v4,C,{who},2024-05-06T09:00,15,booked,",
        f"v5,A,Dr. No,{clinic.site.name},2024-05-06T09:00,15,booked,",
        "v6,A,Dr. Who,Nowhere,2024-05-06T09:00,15,booked,",
        f"v7,A,{who},2024-05-06T09:00,15,checked_in,",
        f"v1,A,{who},2024-05-06T08:00,15,completed,2024-04-01T10:00",
        f"v8,A,{who},soon,15,booked,",
        f"v9,A,{clinic.practitioner_id},{clinic.site.site_id},2024-05-06T10:00,15,cancelled,",
    )
    run = await desk.bring(source, VISITS)
    assert [(each.line, each.column, each.code) for each in await desk.remarks(run)] == [
        (3, None, "SLOT_TAKEN"),
        (5, "patient", "PATIENT_NOT_FOUND"),
        (6, "practitioner", "PRACTITIONER_NOT_FOUND"),
        (7, "site", "SITE_NOT_FOUND"),
        (8, None, "REQUEST_INVALID"),
        (10, "starts_at", "VALUE_INVALID"),
    ]
    assert counts(run) == {"read": 10, "written": 3, "known": 1, "refused": 6, "skipped": 0}
    rows = await admin.fetch(
        "select status, starts_at from appointment where clinic_id = $1 order by starts_at, status",
        clinic.clinic_id,
    )
    assert [each["status"] for each in rows] == ["completed", "no_show", "cancelled"]
    again = await desk.bring(source, VISITS, again=True)
    assert counts(again) == {"read": 10, "written": 0, "known": 4, "refused": 6, "skipped": 0}


async def test_visits_name_patients_by_the_number_of_somebody_else(
    desk: Desk, tmp_path: Path
) -> None:
    numbered = intake.Reading(identifiers=[intake.IdentifierColumn("card", "urn:cards")])
    people = write(tmp_path, "p.csv", "given_name,family_name,card", "Ann,Tester,c1")
    await desk.bring(people, reading=numbered)
    row = f"v1,c1,Dr. Who,{desk.clinic.site.name},2024-05-06T08:00,15,booked,"
    reading = intake.Reading(patient_system="urn:cards")
    run = await desk.bring(write(tmp_path, "v.csv", HEAD, row), VISITS, reading)
    assert run.written == 1


# --- cut off --------------------------------------------------------------------------------------

CUT = """
import asyncio, os, sys
from pathlib import Path
from tests.domains.intake.test_imports import cut_off
asyncio.run(cut_off(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
"""


async def cut_off(dsn: str, clinic: str, folder: Path, kind: str) -> None:
    """Import until killed, in a process of its own."""
    from cliniq.kernel.ids import ClinicId  # noqa: PLC0415
    from cliniq.platform.clock import Clocks  # noqa: PLC0415
    from cliniq.platform.db import open_database  # noqa: PLC0415

    service.BATCH = 25
    async with open_database(dsn, 2, Clocks()) as database:
        clinic_id = ClinicId(UUID(clinic))

        async def told(run: intake.ImportRun) -> None:
            sys.stdout.write(f"{run.read}\n")
            sys.stdout.flush()

        source = folder / ("people.csv" if kind == "patients" else "visits.csv")
        paths, reading = sources.list_paths(source), intake.Reading()
        what = intake.ImportKind(kind)
        delivery = intake.Delivery(
            what,
            intake.source_of(source.name, what, reading, sources.contents(source, paths)),
            reading,
            sources.open_files(source, paths),
        )
        await intake.bring_in(
            lambda: open_unit(database, WorkScope(clinic_id, "import")), database, delivery, told
        )


async def run_until(dsn: str, clinic: SomeClinic, folder: Path, kind: str, rows: int) -> bool:
    """Import in another process and kill it behind so many rows; tell whether it was at it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CUT,
        dsn,
        str(clinic.clinic_id),
        str(folder),
        kind,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout
    async for line in process.stdout:
        if int(line) >= rows:
            process.send_signal(signal.SIGKILL)
            break
    return await process.wait() == -signal.SIGKILL


@asynccontextmanager
async def written(folder: Path, clinic: SomeClinic) -> AsyncIterator[Path]:
    """Two files for a clinic: people, and their visits, some of which cannot be."""
    people = [
        f"Ann{number},Tester,{'x' if number % 50 == 7 else '1990-01-01'},{number}"
        for number in range(400)
    ]
    write(folder, "people.csv", "given_name,family_name,birth_date,mrn", *people)
    visits = [
        f"v{number},{number},Dr. Who,{clinic.site.name},"
        f"2024-05-{1 + number // 80:02}T{8 + number % 80 // 10:02}:{number % 10 * 5:02},"
        f"{6 if number % 9 == 4 else 5},completed,2024-04-02T10:00"
        for number in range(400)
    ]
    write(folder, "visits.csv", HEAD, *visits)
    yield folder


async def shape(admin: Admin, clinic: SomeClinic) -> dict[str, list[str]]:
    """All that an import has written, but for ids and moments."""
    queries = {
        "patient": "select mrn || given_name || coalesce(birth_date::text, '')",
        "appointment_reference": "select reference",
        "appointment": "select starts_at::text || ends_at || status || version",
        "import_remark": "select place || file || line || code || reason",
        "appointment_history": "select starts_at::text || to_status || version",
    }
    found = {
        table: [
            row[0]
            for row in await admin.fetch(
                f"{query} from {table} where clinic_id = $1 order by 1", clinic.clinic_id
            )
        ]
        for table, query in queries.items()
    }
    runs = await admin.fetch(
        "select kind || state || read || ' ' || written || ' ' || known || ' ' || refused"
        " from import_run where clinic_id = $1 order by 1",
        clinic.clinic_id,
    )
    return found | {"runs": [row[0] for row in runs]}


async def test_import_that_is_killed_five_times_ends_as_one_that_was_not(
    house: House, admin: Admin, urls: Any, tmp_path: Path
) -> None:
    calm, struck = await found_clinic(house), await found_clinic(house)
    async with written(tmp_path, calm):
        for kind in (PATIENTS, VISITS):
            name = "people.csv" if kind is PATIENTS else "visits.csv"
            await Desk(house, calm).bring(tmp_path / name, kind)
    async with written(tmp_path, struck):
        for what in ("patients", "appointments"):
            for rows in (25, 75, 150, 250, 350):
                assert await run_until(urls.application, struck, tmp_path, what, rows)
            assert not await run_until(urls.application, struck, tmp_path, what, 10_000)
    whole, mended = await shape(admin, calm), await shape(admin, struck)
    assert whole == mended
    assert len(whole["patient"]) == 392
    assert len(whole["import_remark"]) > 8
    assert await left(admin, calm) == await left(admin, struck)


# --- by HTTP --------------------------------------------------------------------------------------

PATH = "/api/v1/patients"


BODY = b"given_name,family_name,birth_date\nAnn,Tester,1990-01-01\nBen,,1990-01-01\n"


async def test_file_that_cannot_be_imported_is_refused_before_it_is_kept(
    client: Client, clinic: SomeClinic
) -> None:
    body, headers = BODY, clinic.acting(clinic.admin)
    for sent, query, status, code in (
        (body, "?file_name=people.xlsx", 409, "FILE_KIND_UNKNOWN"),
        (body, "?file_name=a/b.csv", 422, "REQUEST_INVALID"),
        (body, '?file_name=a.csv&reading={"columns":{"x":"y"}}', 409, "READING_INVALID"),
        (body, "?file_name=a.csv&reading=x", 409, "READING_INVALID"),
        (b"", "?file_name=a.csv", 422, "REQUEST_INVALID"),
        (b"x" * ((16 << 20) + 1), "?file_name=a.csv", 413, "PAYLOAD_TOO_LARGE"),
    ):
        answer = await client.post(f"{PATH}/import{query}", content=sent, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (await client.get(f"{PATH}/imports", headers=headers)).json() == []
    doctor = clinic.acting(clinic.doctor)
    assert (await client.post(f"{PATH}/import", content=body, headers=doctor)).status_code == 403


async def test_file_that_is_sent_is_imported_by_a_job(
    client: Client, house: House, clinic: SomeClinic, admin: Admin
) -> None:
    body, headers = BODY, clinic.acting(clinic.admin) | {"content-type": "text/csv"}
    answer = await client.post(f"{PATH}/import?file_name=a.csv", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    run = answer.json()
    assert (run["state"], run["read"]) == ("running", 0)
    again = await client.post(f"{PATH}/import?file_name=a.csv", content=body, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "IMPORT_RUNNING")

    promised = await admin.fetchval(
        "select count(*) from pgqueuer where entrypoint = $1 and headers->>'clinic' = $2"
        " or convert_from(payload, 'utf8') like '%' || $3 || '%'",
        jobs.IMPORT.lane,
        str(clinic.clinic_id),
        run["import_id"],
    )
    assert promised == 1
    trip = Trip(house, clinic)
    await service.import_kept(trip, Kept(UUID(run["import_id"])))
    at = f"{PATH}/imports/{run['import_id']}"
    ended = (await client.get(at, headers=headers)).json()
    assert (ended["state"], ended["written"], ended["refused"]) == ("completed", 1, 1)
    page = (await client.get(f"{at}/remarks", headers=headers)).json()
    assert [(each["line"], each["column"], each["code"]) for each in page["items"]] == [
        (3, "family_name", "VALUE_MISSING")
    ]
    assert trip.told[-1][0] == trip.told[-1][1] == len(body)
    await service.import_kept(trip, Kept(UUID(run["import_id"])))  # once more does nothing
    assert (await left(admin, clinic))["patient"] == 1
    done = await client.post(f"{PATH}/import?file_name=a.csv", content=body, headers=headers)
    assert (done.status_code, done.json()["code"]) == (409, "IMPORT_DONE")
    assert done.json()["import_id"] == run["import_id"]
    missing = await client.get(f"{PATH}/imports/{new_id()}", headers=headers)
    assert (missing.status_code, missing.json()["code"]) == (404, "IMPORT_NOT_FOUND")


async def test_file_that_is_sent_several_times_at_once_is_one_import(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    at, headers = f"{PATH}/import?file_name=a.csv", clinic.acting(clinic.admin)
    answers = await asyncio.gather(
        *(client.post(at, content=BODY, headers=headers) for _ in range(6))
    )
    said = {each.status_code: each.json().get("code", "OK") for each in answers}
    assert said.items() <= {202: "OK", 409: "IMPORT_RUNNING"}.items()
    assert len({each.json()["import_id"] for each in answers if each.status_code == 202}) == 1
    for table in ("import_run", "import_file"):
        count = f"select count(*) from {table} where clinic_id = $1"  # noqa: S608
        assert await admin.fetchval(count, clinic.clinic_id) == 1


async def test_remarks_come_in_pages(client: Client, desk: Desk, tmp_path: Path) -> None:
    rows = [f"Ann{number}," for number in range(7)]
    run = await desk.bring(write(tmp_path, "p.csv", "given_name,family_name", *rows))
    headers, lines, more = desk.clinic.acting(desk.clinic.admin), [], ""
    page: Any = None
    for _ in range(3):
        at = f"{PATH}/imports/{run.import_id}/remarks?limit=3{more}"
        page = (await client.get(at, headers=headers)).json()
        lines += [each["line"] for each in page["items"]]
        more = f"&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert lines == list(range(2, 9))


class Trip:
    """An errand's way, without a worker."""

    key, attempt, is_last = "a job", 1, False

    def __init__(self, house: House, clinic: SomeClinic) -> None:
        self.tools = tools_of(house, "http://cliniq.test")
        self._clinic_id = clinic.clinic_id
        self.told: list[tuple[int, int]] = []

    def open(self) -> Opening[Unit]:
        return open_unit(self.tools.database, WorkScope(self._clinic_id, "import"))

    async def progress(self, done: int, total: int, note: str = "") -> None:
        assert note
        self.told.append((done, total))

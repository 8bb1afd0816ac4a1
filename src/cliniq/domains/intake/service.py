"""Use cases of the intake room. No HTTP and no SQL here."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from cliniq.domains.access import api as access
from cliniq.domains.appointments import api as appointments
from cliniq.domains.clinics import api as clinics
from cliniq.domains.intake import store
from cliniq.domains.intake.drafts import Draft, VisitRow, draft
from cliniq.domains.intake.errors import (
    ImportDone,
    ImportNotFound,
    ImportRunning,
    ReadingInvalid,
)
from cliniq.domains.intake.models import (
    Counts,
    Fault,
    ImportKind,
    ImportRun,
    ImportState,
    Kept,
    Reading,
    Reason,
    RemarkColumns,
    RemarkMark,
    RemarkPage,
    Source,
    StoredFile,
)
from cliniq.domains.intake.readers import File, ensure_known, list_items, unpack
from cliniq.domains.intake.rules import (
    ensure_readable,
    judge_columns,
    place_in_time,
)
from cliniq.domains.patients import api as patients
from cliniq.domains.scheduling import api as scheduling
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import RequestInvalid
from cliniq.kernel.record import Record
from cliniq.platform.cursors import read_cursor, write_cursor
from cliniq.platform.db import Database, Opening, ReadUnit, Unit
from cliniq.platform.jobs import Trip
from cliniq.platform.signing import Keyring

BATCH = 2_000  # items of one transaction: decision 0030
A_DAY = timedelta(days=1)

Opened: TypeAlias = Callable[[], Opening[Unit]]
Told: TypeAlias = Callable[[ImportRun], Awaitable[None]]

SAID: Mapping[str, str] = {
    refusal.code: refusal.title
    for refusal in (
        patients.PatientNotFound,
        access.PractitionerNotFound,
        clinics.SiteNotFound,
        scheduling.OutsideHorizon,
        scheduling.SlotTaken,
    )
} | {RequestInvalid.code: "it ends before it starts, lasts more than a day, or is in such a state"}


def read_reading(text: str, *, is_toml: bool) -> Reading:
    """Read the words that say how a file is to be read.

    Raises: READING_INVALID 409.
    """
    try:
        if is_toml:
            return msgspec.toml.decode(text, type=Reading)
        return msgspec.json.decode(text, type=Reading)
    except (msgspec.DecodeError, ValueError) as error:
        raise ReadingInvalid(str(error)) from error


def source_of(
    name: str, kind: ImportKind, reading: Reading, contents: Iterable[tuple[str, Iterable[bytes]]]
) -> Source:
    """Name what is imported, by all that it says and by how it is read."""
    digest = sha256(msgspec.json.encode([kind, reading], order="deterministic"))
    for file, pieces in contents:
        digest.update(b"\0" + file.encode() + b"\0")
        for piece in pieces:
            digest.update(piece)
    return Source(name, digest.digest())


class Delivery(Record, frozen=True):
    """What is to be imported, and how it is read. `files` are the source's, to be read once.

    `again`: even if it was imported to its end before; who has no number comes twice then.
    """

    kind: ImportKind
    source: Source
    reading: Reading
    files: Iterable[File]
    again: bool = False


async def bring_in(opened: Opened, database: Database, delivery: Delivery, told: Told) -> ImportRun:
    """Import a source, from where an earlier try has ended; `told` hears after each transaction.

    What is read is written in transactions of `BATCH` items, each with how far it has come: so a
    source that was cut off at any moment ends as one that was not. The files are read beside.
    Raises: READING_INVALID 409; IMPORT_DONE 409 for one that was imported to its end before;
    IMPORT_RUNNING 409 where a rival goes on with the same source.
    """
    kind, reading = delivery.kind, delivery.reading
    ensure_readable(reading, kind)
    async with opened() as unit:
        done = await store.find_completed(unit, kind, delivery.source.digest)
        if done is not None and not delivery.again:
            raise ImportDone(done.import_id)
        run = await begin(unit, kind, delivery.source)
    await told(run)
    batches = _batches(delivery, run.read)
    coming = asyncio.create_task(asyncio.to_thread(next, batches, None))
    try:
        while (batch := await coming) is not None:
            coming = asyncio.create_task(asyncio.to_thread(next, batches, None))
            if kind is ImportKind.APPOINTMENTS:
                await _open_months(database, batch)
            async with opened() as unit:
                run = await take(unit, run.import_id, batch, reading)
            await told(run)
    finally:
        coming.cancel()
    async with opened() as unit:
        run = await end(unit, run.import_id)
    await told(run)
    return run


def _batches(delivery: Delivery, done: int) -> Iterator[Sequence[Draft]]:
    """Read on, behind what is done with."""
    kind, reading = delivery.kind, delivery.reading

    def judge(columns: Sequence[str]) -> str | None:
        return judge_columns(reading, kind, columns)

    items = list_items(delivery.files, reading.delimiter, judge)
    place = done
    rest = islice(items, done, None)
    while batch := list(islice(rest, BATCH)):
        yield [draft(place + number, each, kind, reading) for number, each in enumerate(batch)]
        place += len(batch)


async def _open_months(database: Database, batch: Sequence[Draft]) -> None:
    """Open the partitions that visits need; a day more at each end, for zones."""
    days: list[date] = []
    for each in batch:
        if isinstance(each.brings, VisitRow):
            days += [each.brings.starts_at.date(), each.brings.ends_at.date()]
            days += [each.brings.booked_at.date()] if each.brings.booked_at else []
    if days:
        await appointments.open_for(database, min(days) - A_DAY, max(days) + A_DAY)


async def begin(unit: Unit, kind: ImportKind, source: Source) -> ImportRun:
    """Begin to import a source, or find it where an earlier try has left it."""
    await store.add_run(unit, new_id(), kind, source.name, source.digest, unit.wall, unit.actor_id)
    run = await store.find_running(unit, kind, source.digest)
    assert run is not None  # noqa: S101 - begun above, or before
    return run


async def take(unit: Unit, import_id: UUID, batch: Sequence[Draft], reading: Reading) -> ImportRun:
    """Write what a batch brings, what is to be told of it, and how far the import has come.

    Locks: the import, until COMMIT.
    Raises: IMPORT_NOT_FOUND 404; IMPORT_RUNNING 409 where the batch is not the next one.
    """
    run = await _hold(unit, import_id)
    if run.state is not ImportState.RUNNING or run.read != batch[0].place:
        raise ImportRunning
    remarks: list[tuple[Draft, Fault]] = [(each, fault) for each in batch for fault in each.faults]
    counts = Counter[str](
        "refused" if each.faults else "skipped" for each in batch if each.brings is None
    )
    if run.kind is ImportKind.PATIENTS:
        counts += await _take_patients(unit, batch, remarks)
    else:
        counts += await _take_visits(unit, batch, reading, remarks)
    if remarks:
        remarks.sort(key=lambda told: told[0].place)
        await store.add_remarks(unit, import_id, _columns(remarks))
    return await store.advance(unit, import_id, len(batch), Counts(**counts))


async def _hold(unit: Unit, import_id: UUID) -> ImportRun:
    run = await store.hold_run(unit, import_id)
    if run is None:
        raise ImportNotFound
    return run


def _columns(remarks: Sequence[tuple[Draft, Fault]]) -> RemarkColumns:
    parts: list[int] = []
    for number, (each, _) in enumerate(remarks):
        follows = number and remarks[number - 1][0] is each
        parts.append(parts[-1] + 1 if follows else 0)
    return RemarkColumns(
        [each.place for each, _ in remarks],
        parts,
        [each.file for each, _ in remarks],
        [fault.line for _, fault in remarks],
        [fault.column for _, fault in remarks],
        [fault.code for _, fault in remarks],
        [fault.reason for _, fault in remarks],
    )


async def _take_patients(
    unit: Unit, batch: Sequence[Draft], remarks: list[tuple[Draft, Fault]]
) -> Counter[str]:
    bring = [(each, each.brings) for each in batch if isinstance(each.brings, patients.Newcomer)]
    admissions = (
        await patients.admit_all(unit, [newcomer for _, newcomer in bring]) if bring else []
    )
    counts = Counter[str]()
    for (each, _), admission in zip(bring, admissions, strict=True):
        match admission.outcome:
            case patients.Outcome.ADMITTED:
                counts["written"] += 1
            case patients.Outcome.CONFLICT:
                counts["refused"] += 1
                said = "its numbers are those of patients who are somebody else"
                remarks.append((each, Fault(each.line, None, Reason.NUMBERS_CONFLICT, said)))
            case patients.Outcome.TWIN:
                counts["known"] += 1
                said = "the same patient came before in this source"
                remarks.append((each, Fault(each.line, None, Reason.PATIENT_TWIN, said)))
            case patients.Outcome.KNOWN:
                counts["known"] += 1
    return counts


class _Names:
    """What the words of visits stand for in a clinic."""

    def __init__(
        self,
        found: Mapping[str, UUID],
        practitioners: Sequence[access.Practitioner],
        sites: Sequence[clinics.Site],
    ) -> None:
        self._patients = found
        self._practitioners = _by_word((each.practitioner_id, each.name) for each in practitioners)
        self._sites = _by_word((each.site_id, each.name) for each in sites)
        self._zones = {each.site_id: ZoneInfo(each.zone) for each in sites}

    def visit(self, row: VisitRow, now: datetime) -> appointments.Imported | tuple[str, str, str]:
        """Say which visit a row means; or the column, code and reason why there is none."""
        patient_id = self._patients.get(row.patient)
        practitioner_id = self._practitioners.get(row.practitioner)
        site_id = self._sites.get(row.site)
        for column, found, refusal in (
            ("patient", patient_id, patients.PatientNotFound),
            ("practitioner", practitioner_id, access.PractitionerNotFound),
            ("site", site_id, clinics.SiteNotFound),
        ):
            if found is None:
                return column, refusal.code, refusal.title
        assert patient_id and practitioner_id and site_id  # noqa: S101, PT018 - seen above
        zone = self._zones[site_id]
        starts_at = place_in_time(row.starts_at, zone)
        ends_at = place_in_time(row.ends_at, zone)
        booked_at = place_in_time(row.booked_at, zone) if row.booked_at else now
        if starts_at is None or ends_at is None or booked_at is None:
            said = "a time that the site's clocks leap over"
            return "starts_at", Reason.VALUE_INVALID, said
        return appointments.Imported(
            patient_id,
            practitioner_id,
            site_id,
            row.visit_type,
            starts_at,
            ends_at,
            row.status,
            min(booked_at, starts_at),
            row.reference,
        )


def _by_word(pairs: Iterable[tuple[UUID, str]]) -> dict[str, UUID]:
    """Let things be found by id, and by name where it is one thing's only."""
    named: dict[str, UUID] = {}
    doubled = set()
    for each_id, name in pairs:
        doubled |= {name} & named.keys()
        named[name] = each_id
        named[str(each_id)] = each_id
    return {word: each_id for word, each_id in named.items() if word not in doubled}


async def _take_visits(
    unit: Unit, batch: Sequence[Draft], reading: Reading, remarks: list[tuple[Draft, Fault]]
) -> Counter[str]:
    rows = [(each, each.brings) for each in batch if isinstance(each.brings, VisitRow)]
    if not rows:
        return Counter()
    names = await _look_up(unit, reading, {row.patient for _, row in rows})
    counts = Counter[str]()
    wanted: list[tuple[Draft, appointments.Imported]] = []
    for each, row in rows:
        meant = names.visit(row, unit.now)
        if isinstance(meant, appointments.Imported):
            wanted.append((each, meant))
        else:
            field, code, said = meant
            column = reading.columns.get(field, field)
            remarks.append((each, Fault(each.line, column, code, said)))
            counts["refused"] += 1
    recorded = await appointments.book_all(unit, [visit for _, visit in wanted]) if wanted else []
    for (each, _), answer in zip(wanted, recorded, strict=True):
        if answer.refusal is not None:
            said = SAID[answer.refusal]
            remarks.append((each, Fault(each.line, None, answer.refusal, said)))
        counts["refused" if answer.refusal else "known" if answer.known else "written"] += 1
    return counts


async def _look_up(unit: ReadUnit, reading: Reading, words: set[str]) -> _Names:
    wanted = sorted(words)
    if reading.patient_system is None:
        found = await patients.find_by_mrns(unit, wanted)
    else:
        found = await patients.find_by_identifiers(unit, reading.patient_system, wanted)
    return _Names(
        dict(found), await access.list_practitioners(unit), await clinics.list_sites(unit)
    )


async def end(unit: Unit, import_id: UUID) -> ImportRun:
    """Say that all of a source was read. It is refused if nothing of it was taken.

    Idempotent.
    Raises: IMPORT_NOT_FOUND 404.
    """
    run = await _hold(unit, import_id)
    taken = run.written + run.known + run.skipped
    state = ImportState.COMPLETED if taken or not run.refused else ImportState.REFUSED
    await store.drop_file(unit, import_id)
    return await store.end_run(unit, import_id, state, unit.wall) or run


async def get_import(unit: ReadUnit, import_id: UUID) -> ImportRun:
    """Find an import.

    Raises: IMPORT_NOT_FOUND 404.
    """
    run = await store.find_run(unit, import_id)
    if run is None:
        raise ImportNotFound
    return run


async def list_remarks(
    unit: ReadUnit, keyring: Keyring, import_id: UUID, limit: int, cursor: str | None
) -> RemarkPage:
    """List what is to be told of an import's rows, in the order of the source.

    Raises: IMPORT_NOT_FOUND 404; REQUEST_INVALID 422 for a strange cursor.
    """
    await get_import(unit, import_id)
    after = read_cursor(keyring, unit.scope, "remarks", cursor, RemarkMark) or RemarkMark(-1, 0)
    found = await store.list_remarks(unit, import_id, after.place, after.part, limit + 1)
    if len(found) <= limit:
        return RemarkPage(found, None)
    last = found[limit - 1]
    mark = write_cursor(keyring, unit.scope, "remarks", RemarkMark(last.place, last.part))
    return RemarkPage(found[:limit], mark)


async def list_imports(unit: ReadUnit, limit: int) -> list[ImportRun]:
    """List the clinic's imports, the latest first."""
    return await store.list_runs(unit, limit)


async def keep_file(unit: Unit, kind: ImportKind, file: StoredFile) -> ImportRun:
    """Begin an import with a file that is kept until then.

    Raises: FILE_KIND_UNKNOWN 409, READING_INVALID 409; IMPORT_RUNNING 409 for a file that waits for
    its import already; IMPORT_DONE 409 for one that was imported before.
    """
    reading = read_reading(file.reading, is_toml=False)
    ensure_readable(reading, kind)
    ensure_known(file.name)
    source = source_of(file.name, kind, reading, [(file.name, [file.body])])
    if await store.find_running(unit, kind, source.digest):
        raise ImportRunning
    if done := await store.find_completed(unit, kind, source.digest):
        raise ImportDone(done.import_id)
    run = await begin(unit, kind, source)
    await store.add_file(unit, run.import_id, file)
    return run


async def import_kept(trip: Trip, kept: Kept) -> None:
    """Import a file that is kept, from where an earlier run of the job has ended.

    Idempotent: what has ended stays as it is.
    Raises: IMPORT_NOT_FOUND 404; IMPORT_RUNNING 409 where a rival goes on with it; IMPORT_DONE 409
    where a rival has ended it meanwhile;
    READING_INVALID 409 and FILE_KIND_UNKNOWN 409 for what only a newer release understands.
    """
    async with trip.open() as unit:
        run = await get_import(unit, kept.import_id)
        file = await store.find_file(unit, kept.import_id)
    if file is None:
        return
    size = len(file.body)
    done = 0

    def note(more: int) -> None:
        nonlocal done
        done += more

    async def told(run: ImportRun) -> None:
        await trip.progress(min(done, size), size, f"{run.read} rows")

    reading = read_reading(file.reading, is_toml=False)
    source = source_of(file.name, run.kind, reading, [(file.name, [file.body])])
    files = [unpack(file.name, file.body, note)]
    delivery = Delivery(run.kind, source, reading, files)
    await bring_in(trip.open, trip.tools.database, delivery, told)

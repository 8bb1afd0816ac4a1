"""`cliniq import`: patients and visits from files; what became of them, and of each refused row.

Whoever holds the database's login does this: no session is asked for, and the audit names none.
"""

import csv
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from cliniq.cli import sources
from cliniq.domains.clinics import api as clinics
from cliniq.domains.intake import api as intake
from cliniq.kernel.ids import ClinicId
from cliniq.kernel.problem import Problem
from cliniq.kernel.record import Record
from cliniq.kernel.scope import PlatformScope, WorkScope
from cliniq.platform.db import Database, Opening, Unit, open_database, open_read_unit, open_unit
from cliniq.platform.rehearsal import ensure_rehearsal, load_clocks
from cliniq.platform.settings import SettingsRefused, load_settings
from cliniq.platform.source import database_urls
from cliniq.platform.telemetry import configure_logs

POOL_SIZE = 2
MOST_SHOWN = 50
PAGE = 1_000
KNOWN = ", ".join(f"*{each}" for each in (*intake.ENDINGS, *sources.PACKED))
_DONE = (
    "{} was imported before, as {}: --again imports it once more, and whoever in it has no number"
    " twice."
)
SCOPE = PlatformScope("find a clinic")

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]
ClinicOption = Annotated[str, typer.Option(help="Its id, short name or name.")]
ReadingOption = Annotated[
    Path | None, typer.Option("--mapping", help="How the file is to be read (TOML).")
]
AgainOption = Annotated[bool, typer.Option(help="Even if it was imported before.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, one object a line.")]


class Wanted(Record, frozen=True):
    """What is to be imported, as it was typed."""

    kind: intake.ImportKind
    source: Path
    clinic: str
    mapping: Path | None
    again: bool
    as_json: bool


class Told(Record, frozen=True):
    """What an import came to; `remarks` counts what is told of rows, by code."""

    run: intake.ImportRun
    remarks: dict[str, int]


def import_commands(run: Run) -> typer.Typer:
    """Make the commands; `run` runs what they do, and says what an operator can mend."""
    cli = typer.Typer(no_args_is_help=True, help="Take over patients and visits from files.")

    @cli.command()
    def patients(
        source: Annotated[Path, typer.Argument(help="FHIR NDJSON or bundles, CSV; packed or not.")],
        clinic: ClinicOption,
        mapping: ReadingOption = None,
        again: AgainOption = False,  # noqa: FBT002 - typer's way to name a flag
        as_json: JsonOption = False,  # noqa: FBT002 - typer's way to name a flag
    ) -> None:
        """Import patients. Once more goes on where an import was cut off."""
        wanted = Wanted(intake.ImportKind.PATIENTS, source, clinic, mapping, again, as_json)
        run(_import(wanted))

    @cli.command()
    def appointments(
        source: Annotated[Path, typer.Argument(help="CSV, packed or not.")],
        clinic: ClinicOption,
        mapping: ReadingOption = None,
        again: AgainOption = False,  # noqa: FBT002 - typer's way to name a flag
        as_json: JsonOption = False,  # noqa: FBT002 - typer's way to name a flag
    ) -> None:
        """Import visits, with what became of them. Once more goes on where it was cut off."""
        wanted = Wanted(intake.ImportKind.APPOINTMENTS, source, clinic, mapping, again, as_json)
        run(_import(wanted))

    @cli.command("list")
    def list_imports(clinic: ClinicOption) -> None:
        """List the imports of a clinic, the latest first."""
        run(_list(clinic))

    @cli.command()
    def show(
        import_id: UUID,
        clinic: ClinicOption,
        refusals: Annotated[
            Path | None, typer.Option(help="A file for the report of all rows, as CSV; - prints.")
        ] = None,
    ) -> None:
        """Show what became of an import, and what is told of its rows."""
        run(_show(import_id, clinic, refusals))

    return cli


@asynccontextmanager
async def _database() -> AsyncIterator[Database]:
    settings = load_settings()
    configure_logs("error")
    clocks = load_clocks(settings)
    pooler = settings.backends.pooler
    async with (
        database_urls(settings) as urls,
        open_database(urls.application, POOL_SIZE, clocks, pooler=pooler) as database,
    ):
        if settings.clinic_clock is not None:
            await ensure_rehearsal(database)
        yield database


async def _clinic(database: Database, word: str) -> ClinicId:
    """Find a clinic by what it is called.

    Raises: SettingsRefused where it is none, or several.
    """
    async with open_read_unit(database, SCOPE) as unit:
        known = await clinics.list_clinics(unit)
    found = [each for each in known if word in {str(each.clinic_id), each.app_name, each.name}]
    if len(found) == 1:
        return ClinicId(found[0].clinic_id)
    names = ", ".join(each.app_name for each in known[:MOST_SHOWN])
    what = "several clinics are" if found else "no clinic is"
    raise SettingsRefused(f"{what} called {word!r}. There are: {names or 'none yet'}.")


def _reading(kind: intake.ImportKind, path: Path | None) -> intake.Reading:
    if path is None:
        return intake.Reading()
    try:
        reading = intake.read_reading(path.read_text(encoding="utf-8"), is_toml=True)
        intake.ensure_readable(reading, kind)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsRefused(f"{path}: {error}") from error
    except intake.ReadingInvalid as error:
        raise SettingsRefused(f"{path}: {error.facts['word']}") from error
    return reading


def _paths(kind: intake.ImportKind, source: Path) -> list[Path]:
    try:
        paths = sources.list_paths(source)
    except OSError as error:
        raise SettingsRefused(f"{source}: {error.strerror}") from error
    except intake.FileKindUnknown as unknown:
        raise SettingsRefused(f"{source}: nothing there is called {KNOWN}.") from unknown
    if kind is intake.ImportKind.APPOINTMENTS:
        others = [each for each in paths if intake.kind_of(each.name) is not intake.FileKind.CSV]
        if others:
            raise SettingsRefused(f"{others[0]}: visits are imported from CSV.")
    return paths


async def _import(wanted: Wanted) -> None:
    kind, source, word, mapping = wanted.kind, wanted.source, wanted.clinic, wanted.mapping
    reading, paths = _reading(kind, mapping), _paths(kind, source)
    named = intake.source_of(source.name, kind, reading, sources.contents(source, paths))
    async with _database() as database:
        clinic_id = await _clinic(database, word)

        def opened() -> Opening[Unit]:
            return open_unit(database, WorkScope(clinic_id, f"import {kind}"))

        with _Bar(str(kind), sum(each.stat().st_size for each in paths)) as bar:
            files = sources.open_files(source, paths, bar.note)
            delivery = intake.Delivery(kind, named, reading, files, wanted.again)
            try:
                run = await intake.bring_in(opened, database, delivery, bar.told)
            except intake.ImportDone as done:
                raise SettingsRefused(_DONE.format(source, done.facts["import_id"])) from done
            except Problem as problem:
                raise SettingsRefused(f"{problem.code}: {problem.title}.") from problem
        remarks = await _count(database, clinic_id, run.import_id)
    told = Told(run, dict(remarks.most_common()))
    if wanted.as_json:
        typer.echo(msgspec.json.encode(told).decode())
    else:
        _print(told, word)
    if run.state is intake.ImportState.REFUSED:
        sys.exit(1)


class _Bar:
    """A bar over the bytes of a source, with the rate of rows and the time that is left."""

    def __init__(self, words: str, total: int) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task(words, total=total, rows=0, rate=0)
        self._first: int | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def note(self, more: int) -> None:
        self._progress.advance(self._task, more)

    async def told(self, run: intake.ImportRun) -> None:
        if self._first is None:
            self._first = run.read
        seconds = self._progress.tasks[0].elapsed or 1
        rate = (run.read - self._first) / seconds
        self._progress.update(self._task, rows=run.read, rate=rate)


async def _remarks(unit: Any, import_id: UUID) -> AsyncIterator[intake.Remark]:
    place, part = -1, 0
    while found := await intake.list_remarks(unit, import_id, place, part, PAGE):
        for each in found:
            yield each
        place, part = found[-1].place, found[-1].part


def _print(told: Told, word: str) -> None:
    run = told.run
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{run.source}: {run.state}. {run.read:,} read: {run.written:,} new, {run.known:,} known,"
        f" {run.refused:,} refused, {run.skipped:,} that are no {run.kind}."
    )
    for code, count in told.remarks.items():
        console.print(f"  {code}: {count:,}")
    if told.remarks:
        console.print(
            f"Every row: cliniq import show {run.import_id} --clinic {word} --refusals FILE"
        )


async def _count(database: Database, clinic_id: ClinicId, import_id: UUID) -> Counter[str]:
    """Count what is told of an import's rows, by code."""
    async with open_read_unit(database, WorkScope(clinic_id, "report")) as unit:
        return Counter([each.code async for each in _remarks(unit, import_id)])


async def _list(word: str) -> None:
    async with _database() as database:
        clinic_id = await _clinic(database, word)
        async with open_read_unit(database, WorkScope(clinic_id, "list imports")) as unit:
            runs = await intake.list_runs(unit, MOST_SHOWN)
    table = Table("import", "what", "source", "state", "read", "new", "known", "refused", "began")
    for each in runs:
        numbers = [f"{n:,}" for n in (each.read, each.written, each.known, each.refused)]
        began = each.started_at.isoformat(timespec="seconds")
        table.add_row(str(each.import_id), each.kind, each.source, each.state, *numbers, began)
    Console().print(table if runs else "There was none.")


async def _show(import_id: UUID, word: str, report: Path | None) -> None:
    async with _database() as database:
        clinic_id = await _clinic(database, word)
        async with open_read_unit(database, WorkScope(clinic_id, "show an import")) as unit:
            try:
                run = await intake.get_import(unit, import_id)
            except intake.ImportNotFound as no:
                raise SettingsRefused(f"{no.title}.") from no
            remarks = [each async for each in _remarks(unit, import_id)]
    if report is None:
        _print(Told(run, dict(Counter(each.code for each in remarks).most_common())), word)
        table = Table("file", "line", "column", "code", "reason")
        for each in remarks[:MOST_SHOWN]:
            table.add_row(each.file, str(each.line), each.column or "", each.code, each.reason)
        if remarks:
            Console().print(table)
    elif str(report) == "-":
        _write(remarks, sys.stdout)
    else:
        with report.open("w", encoding="utf-8", newline="") as file:
            _write(remarks, file)


def _write(remarks: list[intake.Remark], file: Any) -> None:
    rows = csv.writer(file)
    rows.writerow(("file", "line", "column", "code", "reason"))
    for each in remarks:
        rows.writerow((each.file, each.line, each.column or "", each.code, each.reason))

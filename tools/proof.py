"""`make proof`: run the proofs in their full sizes and write down what was counted.

On the embedded server, and on the one of CLINIQ_TEST_DATABASE_URL too where that is set. With
words, only the proofs whose claim holds one of them are run, and nothing is written.
"""

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cliniq.platform.embedded import programs

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "proof.md"
OTHER_SERVER = "CLINIQ_TEST_DATABASE_URL"
FULL = {"CLINIQ_TEST_FULL": "1", "CLINIQ_TEST_ROUNDS": "200", "CLINIQ_TEST_TICKETS": "1000"}
HOW = ("-m", "pytest", "-q", "--timeout=3600")

CROWD = "tests/journeys/test_crowd.py"
STOP = "tests/journeys/test_stop.py"
KILLS = "tests/journeys/test_kills.py"
SEVERED = "tests/journeys/test_severed.py"
RELAY = "tests/platform/test_relay.py"
PROMISES = "tests/journeys/test_promises.py"
API = "tests/fuzz/test_api.py"
IMPORTS = "tests/domains/intake/test_imports.py"
STORM = "tests/journeys/test_storm.py"


@dataclass(frozen=True)
class Proof:
    """A claim, and the tests that would fail if it were false."""

    claim: str
    tests: Sequence[str]
    size: str = ""
    embedded_only: bool = False


PROOFS = (
    Proof(
        "However many scans of one visit are in flight, there is one check-in, one place in the "
        "queue and one ticket, and everyone sees it.",
        [f"{CROWD}::test_crowd_of_scans_of_one_visit_leaves_one_check_in_and_one_ticket"],
    ),
    Proof(
        "Callers at once call every ticket once; the numbers have no gap.",
        [f"{CROWD}::test_crowd_of_callers_calls_every_ticket_once"],
    ),
    Proof(
        "Of bookers of one slot over HTTP, whose wishes conflict by doctor, by patient or by both, "
        "one wins each conflict, and none waits for another in a circle.",
        [f"{CROWD}::test_crowd_of_bookers_of_one_slot_has_one_winner_each_and_no_deadlock"],
    ),
    Proof(
        "The count of deadlocks that this rests on does notice one.",
        [f"{CROWD}::test_count_of_deadlocks_notices_a_deadlock"],
        "1 deadlock",
    ),
    Proof(
        "Bookings, moves and cancellations that storm the scheduling room keep every claim true.",
        ["tests/domains/scheduling"],
        "200 rounds each",
    ),
    Proof(
        "Joins and calls that storm the queue room keep order, numbers and versions.",
        ["tests/domains/queue"],
        "1,000 tickets",
    ),
    Proof(
        "Told to stop, killed, or cut off its database, the server loses nothing that it has "
        "acknowledged, and starts again.",
        [STOP],
        "8 bookers who never pause",
        embedded_only=True,
    ),
    Proof(
        "Servers, worker, PostgreSQL (-9 and immediate) and Redis are killed at random moments "
        "under a load of scans and calls: nothing acknowledged is lost, nothing is done twice, "
        "each job has its effect once by its key, every follower ends with the fresh board and "
        "missed no version unnoticed, and all is back within 30 s.",
        [KILLS],
        "200 rounds",
        embedded_only=True,
    ),
    Proof(
        "The network to Redis is cut, Redis is killed, a process is killed: of the versions "
        "meanwhile none is missed unnoticed.",
        [SEVERED],
        "cut for 30 s",
        embedded_only=True,
    ),
    Proof(
        "Sockets that are dropped at once, because every connection was cut or their process was "
        "killed, are back within 60 s and have missed no version, while scans go on.",
        [f"{STORM}::test_crowd_that_is_dropped_at_once_is_back_and_has_missed_nothing"],
    ),
    Proof(
        "A process that is told to stop sends its sockets away, each with a time to come back, and "
        "none misses a version.",
        [
            f"{STORM}::test_process_told_to_stop_sends_its_sockets_to_the_other_and_none_misses_anything"
        ],
        "24 sockets",
    ),
    Proof(
        "After every operation on a queue, its events applied to the old board give the fresh one.",
        ["tests/domains/queue/test_machine.py"],
        "300 days of up to 40 steps",
    ),
    Proof(
        "They do so too where one process is asked and another followed, over a socket through "
        "Redis.",
        ["tests/journeys/test_machine.py"],
        "200 days of up to 40 steps",
    ),
    Proof(
        "Relays that die at any moment lose nothing and keep the order of every topic.",
        [f"{RELAY}::test_relays_that_die_at_any_moment_lose_nothing_and_keep_the_order"],
    ),
    Proof(
        "Workers killed in the middle lose no job and do none twice.",
        [f"{PROMISES}::test_killed_workers_lose_nothing_and_do_nothing_twice"],
        "20 kills, 4,000 jobs, 1,600 errands",
    ),
    Proof(
        "A poisoned job is held, its neighbours are not, and it is done once mended and replayed.",
        ["tests/platform/test_jobs_cli.py::test_poisoned_job_is_held_and_done_once_it_is_replayed"],
        "20 jobs, 1 poisoned",
    ),
    Proof(
        "Ten thousand reminders of one clinic do not stand before one of another.",
        [f"{PROMISES}::test_ten_thousand_reminders_of_a_clinic_do_not_stand_before_one_of_another"],
        "10,000 reminders",
    ),
    Proof(
        "A provider that hangs holds no connection to the database, and requests do not feel it.",
        ["tests/journeys/test_hanging.py"],
        "60 s",
    ),
    Proof(
        "An import that is killed five times, and given again each time, ends as one that was not.",
        [f"{IMPORTS}::test_import_that_is_killed_five_times_ends_as_one_that_was_not"],
        "400 people and 400 visits, 10 kills",
    ),
    Proof(
        "A city's appointments are imported, each row or its reason; a day of eight clinics is "
        "played through the public API, and nothing is lost, doubled, stuck, or shown differently "
        "at desk, board and phone. One seed is one story.",
        ["tests/journeys/test_full_day.py"],
        embedded_only=True,
    ),
    Proof(
        "With ten million people a scan, a day list and a search take no more than half as much "
        "again as with ten thousand, at p95.",
        ["tests/journeys/test_ten_million.py"],
        embedded_only=True,
    ),
    Proof(
        "Whatever is sent to whichever operation, by everyone whom the document lets in and by "
        "nobody, the API does what its document says: it never breaks, never ignores a sign-in, "
        "takes what is allowed and refuses what is not.",
        [API],
    ),
    Proof(
        "Each of the checks that this rests on does notice its sin.",
        ["tests/fuzz/test_sins.py"],
        "9 sins",
    ),
)


@dataclass
class Outcome:
    """What became of the tests of a proof on one server."""

    proof: Proof
    server: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0
    size: str = ""
    counted: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Say whether the claim stands: whatever was skipped has proved nothing."""
        return self.passed > 0 and not self.failed and not self.skipped

    @property
    def result(self) -> str:
        """Say it in a word."""
        return "holds" if self.holds else "**FAILED**" if self.failed else "**not shown**"

    def row(self) -> str:
        """Write a row of the table."""
        counted = self.counted or {"tests": self.passed}
        facts = ", ".join(
            f"{name.replace('_', ' ')} {_said(fact)}" for name, fact in counted.items()
        )
        cells = self.proof.claim, self.size or self.proof.size, self.server, self.result
        return f"| {' | '.join(cells)} | {self.seconds:.0f} | {facts} |"


def _said(fact: object) -> str:
    return f"{fact:,}" if isinstance(fact, int) else str(fact)


def main(words: Sequence[str]) -> int:
    console = Console(stderr=True)
    chosen = [each for each in PROOFS if not words or any(word in each.claim for word in words)]
    given = dict(os.environ)  # noqa: TID251 - handed on to the tests
    servers = servers_of(given.pop(OTHER_SERVER, ""))
    runs = [
        (proof, server, named)
        for server, named in servers.items()
        for proof in chosen
        if not (named and proof.embedded_only)
    ]
    outcomes = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("proving", total=len(runs))
        for proof, server, named in runs:
            progress.update(task, description=proof.claim[:60])
            outcome = prove(proof, server, given | FULL | named)
            progress.console.print(f"{outcome.result}, {server}: {proof.claim}", markup=False)
            outcomes.append(outcome)
            progress.advance(task)
    if chosen == list(PROOFS):
        DOCUMENT.write_text(document(outcomes), encoding="utf-8")
    return 0 if outcomes and all(each.holds for each in outcomes) else 1


def servers_of(other: str) -> dict[str, dict[str, str]]:
    """Name the servers with their versions, and the setting that makes the suite use each."""
    said = subprocess.run(
        (programs() / "postgres", "--version"), capture_output=True, text=True, check=True
    ).stdout
    servers: dict[str, dict[str, str]] = {f"{said.split()[-1]}, embedded": {}}
    if other:
        servers[asyncio.run(_version_at(other))] = {OTHER_SERVER: other}
    return servers


async def _version_at(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        version: str = await connection.fetchval("show server_version")
    finally:
        await connection.close()
    return version.split(maxsplit=1)[0]


def prove(proof: Proof, server: str, environment: Mapping[str, str]) -> Outcome:
    """Run the tests of a proof; what they say goes to the terminal only where one fails."""
    with tempfile.TemporaryDirectory(prefix="cliniq-proof-") as folder:
        report, facts = Path(folder) / "report.xml", Path(folder) / "facts.jsonl"
        ran = subprocess.run(
            (sys.executable, *HOW, f"--junit-xml={report}", *proof.tests),
            cwd=ROOT,
            env={**environment, "CLINIQ_TEST_FACTS": str(facts)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        outcome = Outcome(proof, server)
        if report.exists():
            read_report(report.read_text(encoding="utf-8"), outcome)
        if facts.exists():
            read_facts(facts.read_text(encoding="utf-8").splitlines(), outcome)
    outcome.failed += bool(ran.returncode and not outcome.failed)
    if outcome.failed:
        print(ran.stdout)
    return outcome


def read_report(report: str, outcome: Outcome) -> None:
    """Count what passed, failed and was skipped; a test of the suite's own, so its XML is ours."""
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314
        kinds = {child.tag for child in case}
        outcome.failed += bool(kinds & {"failure", "error"})
        outcome.skipped += "skipped" in kinds
        outcome.passed += not kinds & {"failure", "error", "skipped"}
        outcome.seconds += float(case.get("time", 0))


def read_facts(lines: Iterable[str], outcome: Outcome) -> None:
    """Take over what the tests have written down."""
    for fact in map(json.loads, lines):
        outcome.size = fact["size"] or outcome.size
        outcome.counted |= fact["counted"]


def document(outcomes: Sequence[Outcome]) -> str:
    """Write the page; no date, so that a run that counts the same changes only seconds."""
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}"
    return "\n".join(
        [
            "# Proofs",
            "",
            "Written by `make proof`. The suite runs the same tests in smaller sizes.",
            f"Client, server and database shared one machine: {machine}.",
            "",
            "| claim | size | PostgreSQL | result | seconds | counted |",
            "|---|---|---|---|---|---|",
            *(each.row() for each in outcomes),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

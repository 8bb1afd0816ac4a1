"""`cliniq import` as an operator types it: beside a server, and what is said of each row."""

import csv
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.journeys.served import Installation

CLINIC = ("--clinic", "riverside-demo")
ROWS = "Vorname;Nachname;geb\nÁna;Țester;03.02.1990\nBen;;03.02.1990\n=Cem;Else;31.02.1990\n"
READING = """\
[columns]
given_name = "Vorname"
family_name = "Nachname"
birth_date = "geb"
[formats]
birth_date = "%d.%m.%Y"
"""


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """An installation with a clinic, which serves meanwhile."""
    installation = Installation(Path(tmp_path_factory.mktemp("import")))
    async with installation.running("up", "--demo", "--pace", "0"):
        (installation.folder / "people.csv").write_text(ROWS, encoding="utf-8")
        (installation.folder / "how.toml").write_text(READING, encoding="utf-8")
        yield installation


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("patients", "nowhere.csv", *CLINIC), "No such file"),
        (("patients", "journal", *CLINIC), "*.ndjson"),
        (("patients", "people.csv", "--clinic", "nobody"), "no clinic is called 'nobody'"),
        (("patients", "people.csv", *CLINIC, "--mapping", "people.csv"), "people.csv: "),
        (("appointments", "people.csv", *CLINIC, "--mapping", "how.toml"), "no field of app"),
    ],
)
async def test_operator_who_errs_is_told_in_one_sentence(
    place: Installation, words: tuple[str, ...], said: str
) -> None:
    tried = await place.tried("import", *words)
    assert tried.returncode == 2, tried
    assert said in tried.stderr
    assert "Traceback" not in tried.stderr


async def test_operator_imports_a_file_and_reads_what_became_of_each_row(
    place: Installation,
) -> None:
    refused = await place.tried("import", "patients", "people.csv", *CLINIC)
    assert refused.returncode == 1
    assert "COLUMNS_WRONG: 1" in refused.stdout
    words = ("import", "patients", "people.csv", *CLINIC, "--mapping", "how.toml")
    once = await place.tried(*words)
    assert once.returncode == 0, once
    assert "people.csv: completed. 3 read: 1 new, 0 known, 2 refused" in once.stdout
    done = await place.tried(*words)
    assert done.returncode == 2
    assert "was imported before" in done.stderr
    again = json.loads((await place.tried(*words, "--again", "--json")).stdout)
    counts = {name: again["run"][name] for name in ("read", "written", "refused")}
    assert counts == {"read": 3, "written": 1, "refused": 2}  # nobody is known without a number
    assert again["remarks"] == {"VALUE_MISSING": 1, "FORMULA_FOUND": 1, "VALUE_INVALID": 1}
    listed = await place.tried("import", "list", *CLINIC)
    assert listed.stdout.count("people") >= 3
    report = place.folder / "report.csv"
    show = ("import", "show", again["run"]["import_id"], *CLINIC, "--refusals", str(report))
    assert (await place.tried(*show)).returncode == 0
    with report.open(encoding="utf-8") as file:
        rows = [(row["line"], row["column"], row["code"]) for row in csv.DictReader(file)]
    assert rows == [
        ("3", "Nachname", "VALUE_MISSING"),
        ("4", "Vorname", "FORMULA_FOUND"),
        ("4", "geb", "VALUE_INVALID"),
    ]

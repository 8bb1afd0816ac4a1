"""The generated pages say what the code does, and `make check` notices when they no longer do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cliniq.kernel.permissions import GRANTED, Permission, Role
from cliniq.platform.http.system import all_problems
from tests.architecture.declared import GRANTS, UNWALLED, WALLS, lines
from tests.architecture.test_doors import POLICY, read_policy
from tools.reference import check, facts_of, main, write_errors, write_map

DOCS = Path(__file__).parents[2] / "docs"


def rows_of(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading, by their first cell."""
    section = text.partition(f"{heading}\n")[2].partition("\n## ")[0]
    lines = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line] for line in lines[2:]]
    return {row[0].strip("`*"): row[1:] for row in rows}


def test_committed_pages_equal_the_code() -> None:
    for name, text in [("errors.md", write_errors()), ("map.md", write_map())]:
        assert check(DOCS / name, text) == 0, f"{name}: run `make docs`"


def test_pages_are_written_alike_every_time(tmp_path: Path) -> None:
    writes = "import pathlib, sys, tools.reference as r; r.main([], pathlib.Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", writes, tmp_path],
        check=True,
        cwd=DOCS.parent,
        env={"PYTHONHASHSEED": "7", "PATH": os.defpath},
    )
    assert (tmp_path / "errors.md").read_text() == write_errors()
    assert (tmp_path / "map.md").read_text() == write_map()


def test_check_is_a_command() -> None:
    command = [sys.executable, "-m", "tools.reference", "--check"]
    assert subprocess.run(command, check=False, cwd=DOCS.parent).returncode == 0


@pytest.mark.parametrize("page", ["errors.md", "map.md"])
def test_page_that_differs_is_refused_with_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], page: str
) -> None:
    main([], tmp_path)
    assert main(["--check"], tmp_path) == 0
    changed = (tmp_path / page).read_text().replace("QUEUE_EMPTY", "QUEUE_BARE", 1)
    (tmp_path / page).write_text(changed)
    assert main(["--check"], tmp_path) == 1
    said = capsys.readouterr().out
    assert f"{page} differs from the code; run `make docs`" in said
    assert "QUEUE_BARE" in said
    (tmp_path / page).unlink()
    assert main(["--check"], tmp_path) == 1


def test_map_has_every_door_of_the_policy() -> None:
    text = write_map()
    doors = {name: row[0] for name, row in rows_of(text, "## Endpoints").items()}
    topics = {
        f"SUBSCRIBE {name.partition(':')[0]}": row[0]
        for name, row in rows_of(text, "## Live topics").items()
    }
    assert doors | topics == read_policy(POLICY)


def test_map_has_every_table_and_grant_of_the_catalogue() -> None:
    tables = rows_of(write_map(), "## Tables")
    made_by_the_runner = {"schema_step"}
    declared = {table for table, *_ in lines(WALLS)} | UNWALLED - made_by_the_runner
    assert tables.keys() == declared
    columns = {role: place for place, role in enumerate(("clinic", "person", "platform"), 1)}
    seen = {
        (role, name, word)
        for name, row in tables.items()
        for role, place in columns.items()
        for word in re.findall(r"[a-z]+", re.sub(r"^\w+: |\([^)]*\)", "", row[place]))
    }
    granted = {
        (role, thing.partition(".")[0], word)
        for role, thing, *words in lines(GRANTS)
        if thing.partition(".")[0] in tables
        for word in words
    }
    assert seen == granted


def test_map_has_the_matrix_of_the_code() -> None:
    matrix = rows_of(write_map(), "## Who may do what")
    assert matrix.pop("charts in reach")
    assert matrix.keys() == set(Permission)
    for permission, marks in matrix.items():
        granted = {role for role, mark in zip(Role, marks, strict=True) if mark == "●"}
        assert granted == {role for role in Role if permission in GRANTED[role]}


def test_errors_has_every_code_with_its_facts() -> None:
    rows = rows_of(write_errors(), "# Every refusal")
    assert rows.keys() == {kind.code for kind in all_problems()}
    facts = {kind.code: facts_of(kind) for kind in all_problems()}
    assert facts["CHECKIN_TOO_EARLY"] == "`opens_at`"
    assert facts["INVALID_TRANSITION"] == "`from`, `to`, `allowed`"
    assert facts["QUEUE_EMPTY"] == ""

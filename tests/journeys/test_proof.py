"""The table of proofs: it names tests that exist, and does not hide what failed."""

import re

import pytest

from tools.proof import PROOFS, ROOT, Outcome, document, read_facts, read_report

REPORT = """<testsuites><testsuite>
    <testcase name="test_it_works" time="1.5"/>
    <testcase name="test_it_does_not" time="2.0">{blemish}</testcase>
</testsuite></testsuites>"""


def outcome_of(blemish: str) -> Outcome:
    outcome = Outcome(PROOFS[0], "18.4")
    read_report(REPORT.format(blemish=blemish), outcome)
    return outcome


@pytest.mark.parametrize(
    ("blemish", "result"),
    [
        ("<failure message='no'>no</failure>", "**FAILED**"),
        ("<error message='no'>no</error>", "**FAILED**"),
        ("<skipped message='no'>no</skipped>", "**not shown**"),
    ],
)
def test_proof_with_a_blemish_does_not_hold(blemish: str, result: str) -> None:
    outcome = outcome_of(blemish)
    assert not outcome.holds
    assert f"| 18.4 | {result} |" in document([outcome])


def test_proof_without_any_test_does_not_hold() -> None:
    assert Outcome(PROOFS[0], "18.4").result == "**not shown**"


def test_proof_that_holds_says_what_was_counted() -> None:
    outcome = outcome_of("")
    read_facts(['{"test": "t", "size": "9 scans", "counted": {"check_in": 1}}'], outcome)
    assert outcome.row().endswith("| 9 scans | 18.4 | holds | 4 | check in 1 |")


@pytest.mark.parametrize("test", [test for proof in PROOFS for test in proof.tests])
def test_proof_names_tests_that_exist(test: str) -> None:
    path, _, name = test.partition("::")
    target = ROOT / path
    files = [target] if target.is_file() else sorted(target.glob("test_*.py"))
    wanted = re.compile(rf"^(async )?def {re.escape(name) or 'test_'}", re.MULTILINE)
    assert [file for file in files if wanted.search(file.read_text())], test

"""The pages' own logic, run where it is written for: in a JavaScript engine."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
IN_CI = os.environ.get("CI") == "true"  # noqa: TID251 - CI must not skip


def test_live_client_and_page_logic_hold() -> None:
    node = shutil.which("node")
    if node is None and not IN_CI:
        pytest.skip("no Node here to run the pages' own tests")
    assert node is not None, "CI must have Node"
    ran = subprocess.run(
        [node, "--test", str(HERE / "live.test.mjs")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert "# fail 0" in ran.stdout
    assert "# pass 0" not in ran.stdout


ASSETS = HERE.parents[1] / "src/cliniq/web/assets"
EXPORTED = re.compile(r"^export (?:declare )?(?:class|function|const) (\w+)", re.MULTILINE)


def public_members(text: str) -> set[str]:
    """The methods of a class in a module or in its declarations, without private ones."""
    return set(re.findall(r"^  (?:async )?([a-z]\w*)\(.*\)(?:: .*;| \{)$", text, re.MULTILINE))


def test_types_of_the_live_client_declare_what_it_exports() -> None:
    module = (ASSETS / "live-client.js").read_text(encoding="utf-8")
    types = (ASSETS / "live-client.d.ts").read_text(encoding="utf-8")
    assert (
        set(EXPORTED.findall(module))
        == set(EXPORTED.findall(types))
        == {
            "LiveClient",
            "wakeWithPage",
        }
    )
    declared = public_members(types.partition("export class")[2])
    assert (
        declared == public_members(module) - {"constructor", "if"} >= {"subscribe", "wake", "close"}
    )
    lost = types.replace("  wake(): void;\n", "")
    assert public_members(lost.partition("export class")[2]) != declared

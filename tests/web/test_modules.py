"""The pages' own logic, run where it is written for: in a JavaScript engine."""

import os
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

"""How large the journeys are: small in the suite, in full for the proofs (CLINIQ_TEST_FULL=1)."""

import os
from pathlib import Path

_GIVEN = os.environ  # noqa: TID251 - the tests' own settings, and whether this is CI

FULL = _GIVEN.get("CLINIQ_TEST_FULL") == "1"
IN_CI = _GIVEN.get("CI") == "true"
FACTS = Path(named) if (named := _GIVEN.get("CLINIQ_TEST_FACTS")) else None

SCANS = 1000 if FULL else 150
CALLERS = 50
TICKETS = int(_GIVEN.get("CLINIQ_TEST_TICKETS", "1000" if FULL else "100"))
BOOKERS = 64
ROUNDS = int(_GIVEN.get("CLINIQ_TEST_ROUNDS", "200" if FULL else "5"))
KILLS = int(_GIVEN.get("CLINIQ_TEST_KILLS", "200" if FULL else "20" if IN_CI else "3"))
CUT_SECONDS = 30 if FULL else 5
MACHINES = 40 if FULL else 4

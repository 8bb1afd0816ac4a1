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

# Of the proofs that strike: what takes seconds is done in CI and in full.
_LARGE = FULL or IN_CI
KILLS = int(_GIVEN.get("CLINIQ_TEST_KILLS", "200" if FULL else "20" if IN_CI else "2"))
CUT_SECONDS = 30 if FULL else 6 if IN_CI else 3
STRUCK = ["redis", "server-1"] if _LARGE else ["redis"]
DAYS = 200 if FULL else 20 if IN_CI else 10
DEATHS = 20 if _LARGE else 2
JOBS, ERRANDS = (4000, 1600) if _LARGE else (200, 100)
SOCKETS = 9000 if FULL else 450 if IN_CI else 60  # dropped at once
CALM_SECONDS = 20 if FULL else 3 if IN_CI else 1
HANG_SECONDS = 60 if FULL else 3 if IN_CI else 1

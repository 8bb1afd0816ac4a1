"""How much a stranger tries: little in the suite, more in CI, in full for the proofs."""

import os

_GIVEN = os.environ  # noqa: TID251 - the tests' own settings, and whether this is CI

FULL = _GIVEN.get("CLINIQ_TEST_FULL") == "1"
IN_CI = _GIVEN.get("CI") == "true"
SEED = int(_GIVEN.get("CLINIQ_TEST_SEED", "1"))
EXAMPLES = 200 if FULL else 25 if IN_CI else 5  # of an operation, besides what its bounds ask for
FAMILIES = 24 if FULL else 8  # each brings visits to be changed and entries to be called

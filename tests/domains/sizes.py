"""How large the storms are: small in the suite, in full for the proofs."""

import os
import random

_GIVEN = os.environ  # noqa: TID251 - the tests' own settings

ROUNDS = int(_GIVEN.get("CLINIQ_TEST_ROUNDS", "10"))
TICKETS = int(_GIVEN.get("CLINIQ_TEST_TICKETS", "200"))
BOOKERS = 64
CALLERS = 50


def seeded() -> random.Random:
    """Dice that fall the same way every time, unless another seed is given."""
    return random.Random(_GIVEN.get("CLINIQ_TEST_SEED", "1"))  # noqa: S311 - to play, not to hide

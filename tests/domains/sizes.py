"""How large the storms are: small in the suite, in full for the proofs."""

import os
import random

_GIVEN = os.environ  # noqa: TID251 - the tests' own settings

ROUNDS = int(_GIVEN.get("CLINIQ_TEST_ROUNDS", "10"))
TICKETS = int(_GIVEN.get("CLINIQ_TEST_TICKETS", "200"))
DAYS = 300 if _GIVEN.get("CLINIQ_TEST_FULL") == "1" else 8
BOOKERS = 64
CALLERS = 50


def seeded(more: int = 0) -> random.Random:
    """Dice that fall the same way every time, unless another seed is given."""
    given = f"{_GIVEN.get('CLINIQ_TEST_SEED', '1')}.{more}"
    return random.Random(given)  # noqa: S311 - to play, not to hide

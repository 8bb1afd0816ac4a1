"""A clinic full of people, seeded in bulk.

Every id is a kind and a number, so that seeds, requests and pgbench can each compute it. A visit
has the number `i`, its doctor `d`, the doctor's site `s`, a member of staff `c`. All numbers have
eight digits, since pgbench cannot pad.
"""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from uuid import UUID

from bench.ground import SECRET, Connection
from bench.report import BenchFailed
from cliniq.domains.checkin import api as checkin
from cliniq.platform.clock import utc_now
from cliniq.platform.signing import Keyring
from cliniq.platform.tokens import AccessTokens

FIRST = 10_000_000
DIGITS = 8
KEYRING = Keyring(SECRET)
TOKENS = AccessTokens(KEYRING, utc_now)


class Kind(IntEnum):
    """What an id names. The upper digit says which number it ends with."""

    CLINIC = 0x01
    PERSON = 0x11
    SESSION = 0x12
    PATIENT = 0x13
    APPOINTMENT = 0x14
    ENTRY = 0x15
    KEY = 0x16
    PRACTITIONER = 0x21
    QUEUE = 0x22
    SITE = 0x31
    POINT = 0x32
    STAFF = 0x41
    STAFF_SESSION = 0x42

    @property
    def numbered_by(self) -> str:
        """Say which number it ends with; nothing for the clinic, of which there is one."""
        return ("", "i", "d", "s", "c")[self >> 4]


def prefix(kind: int) -> str:
    """Write all of an id but its number."""
    return f"{kind:08x}-0000-7000-8000-0000"


def id_of(kind: Kind, number: int) -> UUID:
    """Name the thing of a kind with a number."""
    return UUID(f"{prefix(kind)}{number}")


CLINIC = id_of(Kind.CLINIC, FIRST)


@dataclass
class Town:
    """How much there is. `starts_at` is SQL over a visit's `i`; `waiting`: who is in a queue."""

    visits: int
    doctors: int
    starts_at: str = "date_trunc('minute', now()) - interval '5 minutes'"
    sites: int = 5
    staff: int = 50
    waiting: bool | str = False  # all, none, or SQL over `i`
    used: int = 0

    @property
    def doctor_of_i(self) -> str:
        """Write a visit's doctor as SQL and pgbench compute it: evenly spread, in no order."""
        return f"{FIRST} + {{i}} * {{i}} % 9973 % {self.doctors}"

    def site_of(self, i: int) -> int:
        """Say at which site a visit takes place."""
        return FIRST + (FIRST + i * i % 9973 % self.doctors) % self.sites

    def take(self, clients: int, each: int) -> list[range]:
        """Give each client a stretch of visits that nobody has used.

        Raises: BenchFailed where there are too few.
        """
        begin = FIRST + self.used
        self.used += clients * each
        if self.used > self.visits:
            raise BenchFailed(f"{self.visits} visits are too few")
        return [range(begin + each * at, begin + each * (at + 1)) for at in range(clients)]

    async def build(self, connection: Connection) -> None:
        """Write it, and leave the database as it is after a quiet night."""
        template = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
        numbers = {kind.name: int(kind) for kind in Kind}
        doctor = self.doctor_of_i.format(i="i")
        given = {**vars(self), **numbers, "FIRST": FIRST, "clinic": CLINIC, "doctor_of_i": doctor}
        await connection.execute(template.format_map(given))
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")


def patient_headers(i: int) -> dict[str, str]:
    """Sign the patient of a visit in."""
    return _signed_in(id_of(Kind.PERSON, i), id_of(Kind.SESSION, i), staff=False)


def staff_headers(c: int) -> dict[str, str]:
    """Sign a doctor in, to act in the clinic."""
    headers = _signed_in(id_of(Kind.STAFF, c), id_of(Kind.STAFF_SESSION, c), staff=True)
    return headers | {"X-Clinic-Id": str(CLINIC)}


def new_key(i: int) -> dict[str, str]:
    """Send an idempotency key of a visit's own."""
    return {"Idempotency-Key": str(id_of(Kind.KEY, i))}


def _signed_in(person: UUID, session: UUID, *, staff: bool) -> dict[str, str]:
    claims = {"sub": str(person), "sid": str(session), "staff": staff}
    return {"Authorization": f"Bearer {TOKENS.issue(claims)}"}


def code_at(site: int) -> str:
    """Sign the code printed at a site's door."""
    code = checkin.Code(checkin.CodeKind.PRINTED, CLINIC, id_of(Kind.POINT, site), 1, 0)
    return checkin.sign_code(KEYRING, code)

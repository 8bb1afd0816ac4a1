"""What people will do, drawn from a seed before anybody does it: no clock, no network.

Sources: no-shows about one in five (the public appointments of Vitória, 2016: 20.2 %); length of
consultations log-normal, mean 13.4 min (Feng et al. 2023, Data 8(3):47: of 3,319 consultations the
logarithm of seconds has mean 6.60, deviation 0.43). The rest is a guess, said as such.
"""

from datetime import timedelta
from random import Random

from cliniq.kernel.record import Record
from cliniq.simulation.models import Doctor, Place

NO_SHOW, NO_PHONE, WRONG_SITE, TWICE, LATE, DEAF, UNTOLD = 0.2, 0.12, 0.03, 0.08, 0.05, 0.03, 0.3
DOCTOR_LATE, DOCTOR_ILL = 0.3, 0.06
WALK_INS = 0.03  # for each visit that is booked
LOG_MEAN, LOG_DEVIATION = 6.60, 0.426
SHORTEST, LONGEST = 90, 3_600  # seconds of a consultation
OUTAGE_SECONDS = (40, 150)
MINUTE = timedelta(minutes=1)


class Part(Record, frozen=True):
    """What a patient will do. Units: `arrives` from the booked start; negative is early."""

    comes: bool
    arrives: timedelta
    has_phone: bool
    wrong_site: bool
    scans_twice: bool
    hears_call: bool
    walks: timedelta
    sees_for: timedelta
    was_told: bool


class Shift(Record, frozen=True):
    """What a doctor will do. Units: `late` from the first visit's start; the rest of the day's."""

    is_ill: bool
    late: timedelta
    break_from: timedelta
    break_for: timedelta
    coffee: timedelta


def draw_part(seed: int, key: str) -> Part:
    """Draw what a patient will do."""
    dice = Random(f"{seed} {key}")  # noqa: S311 - a play, not a secret
    late = dice.random() < LATE
    minutes = dice.uniform(10, 100) if late else min(15.0, max(-50.0, dice.gauss(-12, 9)))
    seconds = min(LONGEST, max(SHORTEST, dice.lognormvariate(LOG_MEAN, LOG_DEVIATION)))
    return Part(
        dice.random() >= NO_SHOW,
        timedelta(seconds=round(minutes * 60)),
        dice.random() >= NO_PHONE,
        dice.random() < WRONG_SITE,
        dice.random() < TWICE,
        dice.random() >= DEAF,
        timedelta(seconds=dice.randrange(15, 90)),
        timedelta(seconds=round(seconds)),
        dice.random() >= UNTOLD,
    )


def draw_shift(seed: int, day: str, doctor: Doctor) -> Shift:
    """Draw what a doctor will do on a day."""
    dice = Random(f"{seed} {day} {doctor.name}")  # noqa: S311 - a play, not a secret
    late = dice.uniform(3, 25) if dice.random() < DOCTOR_LATE else dice.uniform(-5, 2)
    return Shift(
        dice.random() < DOCTOR_ILL,
        timedelta(seconds=round(late * 60)),
        timedelta(hours=12, minutes=dice.randrange(0, 60)),
        timedelta(minutes=dice.randrange(20, 50)),
        timedelta(seconds=dice.randrange(5, 40)),
    )


class Stranger(Record, frozen=True):
    """Somebody who will come without a visit. Units: `at`, from midnight."""

    key: str
    at: timedelta
    given_name: str
    family_name: str


GIVEN = "Ada Bo Chidi Dalia Emil Farah Goran Hana Ivo Jana Kofi Lale Mirko Noor Oto Pia".split()
FAMILY = "Abreu Bauer Costa Diallo Egger Fofana Gruber Haddad Ito Jovic Khan Lopes Mensah".split()


def draw_strangers(seed: int, day: str, place: Place, visits: int) -> list[Stranger]:
    """Draw who walks in at a site, earliest first."""
    drawn = []
    for number in range(round(visits * WALK_INS)):
        key = f"{day} {place.name} walk-in {number}"
        dice = Random(f"{seed} {key}")  # noqa: S311 - a play, not a secret
        at = timedelta(seconds=dice.randrange(8 * 3600, 15 * 3600))
        drawn.append(Stranger(key, at, dice.choice(GIVEN), dice.choice(FAMILY)))
    return sorted(drawn, key=lambda each: (each.at, each.key))


class Outage(Record, frozen=True):
    """While nobody of a clinic reaches the server, or hears its answer. Units: from midnight."""

    begins: timedelta
    ends: timedelta


def draw_outages(seed: int, day: str, clinic: str) -> list[Outage]:
    """Draw when a clinic's network is down: once in the morning, once in the afternoon."""
    dice = Random(f"{seed} {day} {clinic} outage")  # noqa: S311 - a play, not a secret
    begins = [
        timedelta(seconds=dice.randrange(8 * 3600, 12 * 3600)),
        timedelta(seconds=dice.randrange(13 * 3600, 17 * 3600)),
    ]
    return [
        Outage(begin, begin + timedelta(seconds=dice.randrange(*OUTAGE_SECONDS)))
        for begin in begins
    ]


def is_said(seed: int, key: str) -> bool:
    """Draw whether what is sent into an outage arrives, and only its answer is lost."""
    return Random(f"{seed} {key} outage").random() < 0.5  # noqa: S311, PLR2004 - a coin

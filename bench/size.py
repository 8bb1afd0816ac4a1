"""Whether size hurts: scan, day list and search with 10,000 patients, and with many times more.

Both databases are on one server, each behind a process of Cliniq; the same things are asked of both
in turns. Beside the seeded past, either has the same clinic in the middle of its day.
"""

from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import TypeAlias
from urllib.parse import quote

from bench import seed
from bench.ground import Ground, Served, serving_cliniq, two_grounds
from bench.load import Ask, fire
from bench.names import WORLD
from bench.report import Aim, Result
from bench.rounds import Options
from bench.spy import spying
from bench.town import CLINIC, FIRST, Kind, Town, code_at, id_of, new_key, patient_headers
from bench.town import staff_headers as staff
from cliniq.platform.clock import utc_now

WORST = 1.3  # times the small one's p95
SMALL, LARGE = 10_000, 1_000_000
CLIENTS, DOCTORS = 8, 50
ROUNDS, SCANS, READS = 6, 60, 150

Round: TypeAlias = Callable[[Served, Town], "list[Sequence[Ask]]"]


async def run(options: Options, large: int = LARGE) -> Result:
    """Seed both, and ask both in turns; the first round of each only warms."""
    rounds = options.size(ROUNDS, 2)
    scans, reads = options.size(SCANS, 4), options.size(READS, 6)
    sizes = (options.size(SMALL, 400), options.size(large, 1_600))
    found: dict[str, tuple[list[float], list[float]]] = {
        name: ([], []) for name in ("scan", "list", "search")
    }
    async with two_grounds(options.server) as grounds:
        towns = [Town((rounds + 1) * CLIENTS * scans, DOCTORS) for _ in grounds]
        for ground, town, size in zip(grounds, towns, sizes, strict=True):
            async with ground.connect() as admin:
                await town.build(admin)
            mass = seed.Mass(size)
            with seed.bar(mass) as told:
                await seed.seed(ground.admin, ground.application, mass, CLINIC, told)
        bytes_each = [await _size(ground) for ground in grounds]
        async with serving_cliniq(grounds[0]) as small, serving_cliniq(grounds[1]) as big:
            for turn in range(rounds + 1):
                for place, served in enumerate((small, big)):
                    took = await _round(served, towns[place], scans, reads)
                    for name, samples in took.items():
                        found[name][place].extend(samples if turn else ())
            profile: list[str] = []
            if options.profile:
                async with spying(grounds[1], big.pid) as profile:
                    await fire(big.port, _lists(reads))
    return _result(found, sizes, bytes_each, profile)


async def _size(ground: Ground) -> int:
    async with ground.connect() as admin:
        return int(await admin.fetchval("select pg_database_size(current_database())"))


async def _round(served: Served, town: Town, scans: int, reads: int) -> dict[str, list[float]]:
    asked = {
        "scan": [[_scan(town, visit) for visit in each] for each in town.take(CLIENTS, scans)],
        "list": _lists(reads),
        "search": _searches(reads),
    }
    return {
        name: [sample.took for sample in (await fire(served.port, streams)).samples]
        for name, streams in asked.items()
    }


def _scan(town: Town, visit: int) -> Ask:
    body = {"code": code_at(town.site_of(visit))}
    path = "/api/v1/appointments/check-in/scan-qr"
    return Ask("POST", path, patient_headers(visit) | new_key(visit), body)


def _lists(each: int) -> list[list[Ask]]:
    headers, today = staff(FIRST), utc_now().date()
    paths = [
        f"/api/v1/appointments?site_id={id_of(Kind.SITE, FIRST + n % 5)}&day={today}&limit=20"
        for n in range(CLIENTS * each)
    ]
    return [[Ask("GET", path, headers) for path in paths[at::CLIENTS]] for at in range(CLIENTS)]


def _searches(each: int) -> list[list[Ask]]:
    """Search by two or three letters of a family name, in every script: a page is full in both."""
    headers = staff(FIRST)
    families = [name for _, names in WORLD for name in names]
    asks = [
        Ask(
            "GET",
            f"/api/v1/patients?name={quote(families[n % len(families)][: 2 + n % 2])}&limit=5",
            headers,
        )
        for n in range(CLIENTS * each)
    ]
    return [asks[at::CLIENTS] for at in range(CLIENTS)]


def _result(
    found: dict[str, tuple[list[float], list[float]]],
    sizes: Sequence[int],
    bytes_each: Sequence[int],
    profile: Sequence[str],
) -> Result:
    p95 = {
        name: [quantiles(each, n=20)[18] * 1000 for each in sides] for name, sides in found.items()
    }
    ratios = {name: large / small for name, (small, large) in p95.items()}
    worst = max(ratios, key=lambda name: ratios[name])
    large = sorted(found[worst][1])
    facts = {
        "patients": list(sizes),
        "gigabytes": [round(each / 1e9, 2) for each in bytes_each],
        "p95_ms": {name: [round(each, 2) for each in sides] for name, sides in p95.items()},
        "p50_ms_each": {
            name: [round(median(each) * 1000, 2) for each in sides] for name, sides in found.items()
        },
    }
    return Result(
        "size",
        ratios[worst],
        p95[worst][1],
        p95[worst][0],
        "ms (p95)",
        [
            Aim(f"{name}: p95 of large : small", ratios[name], WORST, at_most=True)
            for name in ratios
        ],
        median(large) * 1000,
        large[int(len(large) * 0.99)] * 1000,
        facts,
        profile,
    )

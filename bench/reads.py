"""What the benches of reads share: Cliniq and the bare application over one clinic, in turns."""

import json
from collections.abc import Callable
from typing import TypeAlias

from bench.ground import Served, fresh_ground, serving_bare, serving_cliniq
from bench.load import Ask, Sample, fire
from bench.report import Aim, BenchFailed, Result
from bench.rounds import Options, each_does, take_turns
from bench.spy import spying
from bench.town import Town

Asking: TypeAlias = Callable[[int], Ask]  # of a number, so that both are asked the same

CLIENTS = 16
DAYS = 100
VISITS = 20_000  # of 5 sites in 100 days: about 40 a site and day
STARTS_AT = (
    "date_trunc('day', now()) + interval '8 hours'"
    f" + i % {DAYS} * interval '1 day' + i / {DAYS} % 40 * interval '12 minutes'"
)


async def run_reads(
    name: str, options: Options, ratio: float, ours: Asking, bare: Asking
) -> Result:
    """Ask both for the same things; the first answers are compared."""
    rounds = options.size(5, 2)
    town = Town(options.size(VISITS, 2000), doctors=10, starts_at=STARTS_AT)
    async with fresh_ground(options.server) as ground:
        async with ground.connect() as admin:
            await town.build(admin)
        async with serving_cliniq(ground) as served, serving_bare(ground) as beside:
            if await _answers(served, ours) != await _answers(beside, bare):
                raise BenchFailed("the bare application gives other answers")
            each = each_does(await _ask(served, ours, options.size(100, 5)), options.size(1000, 10))
            await _ask(beside, bare, each)
            used = [process.cpu_seconds() for process in (served, beside)]
            outcome = await take_turns(
                rounds, lambda: _ask(served, ours, each), lambda: _ask(beside, bare, each)
            )
            cpu_us = [
                round((process.cpu_seconds() - before) / (rounds * CLIENTS * each) * 1e6)
                for process, before in zip((served, beside), used, strict=True)
            ]
            profile: list[str] = []
            if options.profile:
                async with spying(ground, served.pid) as profile:
                    await _ask(served, ours, each)
    facts = {"cpu_us": cpu_us[0], "yardstick_cpu_us": cpu_us[1], "clients": CLIENTS}
    return Result(
        name,
        unit="/s",
        aims=[Aim("ratio", outcome.ratio, ratio)],
        facts=outcome.facts() | facts,
        profile=profile,
        **outcome.figures(),
    )


async def _ask(served: Served, what: Asking, each: int) -> list[Sample]:
    """Have every connection ask for `each` things, one after the other."""
    asks = [[what(client + CLIENTS * n) for n in range(each)] for client in range(CLIENTS)]
    return (await fire(served.port, asks)).samples


async def _answers(served: Served, what: Asking) -> object:
    """Read the first answers, without what only a page of Cliniq has: a cursor."""
    volley = await fire(served.port, [[what(n) for n in range(20)]])
    answers = [json.loads(body) for body in volley.bodies]
    return [answer.get("items", answer) for answer in answers]

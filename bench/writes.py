"""What the benches of writes share: Cliniq, and pgbench with the same statements, in turns."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.ground import Connection, Ground, fresh_ground, serving_cliniq
from bench.load import Ask, Sample, fire
from bench.report import Aim, Result
from bench.rounds import Ledger, Options, each_does, take_turns
from bench.script import record, run_pgbench, write_script
from bench.spy import spying
from bench.town import Town

REHEARSALS = 3


@dataclass(frozen=True)
class Deed:
    """Something that many do at once, each with visits of their own, `most` of them in a round.

    `ask` writes the request of a client's visit. `traces` are counted, see `Ledger`. `look` checks
    the answers of a volley. `doctor` is pgbench's, where not the visit's. `afterwards` is SQL.
    """

    name: str
    ratio: float
    clients: int
    most: int
    rounds: int
    traces: Sequence[str]
    ask: Callable[[int, int], Ask]
    look: Callable[[Iterable[bytes]], None]
    doctor: str | None = None
    afterwards: Sequence[str] = ()

    def visits(self, *, profile: bool) -> int:
        """Say how many visits it takes at most."""
        return REHEARSALS + (2 * self.rounds + 1 + profile) * self.clients * self.most


async def run_writes(options: Options, deed: Deed, town: Town) -> Result:
    """Record the deed, then let Cliniq and pgbench do it in turns."""
    async with fresh_ground(options.server) as ground, ground.connect() as admin:
        await town.build(admin)
        ledger = Ledger(admin, deed.traces)
        await ledger.open()
        (visits,) = town.take(1, REHEARSALS)
        recording = await record(ground, [deed.ask(0, visit) for visit in visits])
        await ledger.learn(REHEARSALS)
        script = await write_script(admin, recording, town, deed.doctor)
        async with serving_cliniq(ground) as served:
            arena = _Arena(deed, town, ground, admin, ledger, script, served.port)
            warm_up = await arena.cliniq(max(1, deed.most // 5))
            each = each_does(warm_up, deed.most)
            used = served.cpu_seconds()
            outcome = await take_turns(
                deed.rounds, lambda: arena.cliniq(each), lambda: arena.pgbench(each)
            )
            cpu_us = (served.cpu_seconds() - used) / (deed.rounds * deed.clients * each) * 1e6
            profile: list[str] = []
            if options.profile:
                async with spying(ground, served.pid) as profile:
                    await arena.cliniq(deed.most)
    facts = {"cpu_us": round(cpu_us), "messages": len(recording.said), "clients": deed.clients}
    return Result(
        deed.name,
        unit="/s",
        aims=[Aim("ratio", outcome.ratio, deed.ratio)],
        facts=outcome.facts() | facts,
        profile=profile,
        **outcome.figures(),
    )


@dataclass(frozen=True)
class _Arena:
    """Where both sides do the deed."""

    deed: Deed
    town: Town
    ground: Ground
    admin: Connection
    ledger: Ledger
    script: str
    port: int

    async def cliniq(self, each: int) -> Sequence[Sample]:
        """Let everyone do it over HTTP."""
        stretches = enumerate(self.town.take(self.deed.clients, each))
        asks = [[self.deed.ask(client, visit) for visit in visits] for client, visits in stretches]
        volley = await fire(self.port, asks)
        self.deed.look(volley.bodies)
        await self._settle(each)
        return volley.samples

    async def pgbench(self, each: int) -> Sequence[Sample]:
        """Let pgbench do it."""
        stretches = self.town.take(self.deed.clients, each)
        samples = await run_pgbench(self.ground, self.script, stretches)
        await self._settle(each)
        return samples

    async def _settle(self, each: int) -> None:
        await self.ledger.ensure(self.deed.clients * each)
        for statement in self.deed.afterwards:
            await self.admin.execute(statement)

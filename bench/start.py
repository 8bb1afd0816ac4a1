"""How long one waits for a clinic: `cliniq up` from an empty folder, and again."""

import tempfile
from pathlib import Path
from statistics import median

from bench.ground import PROGRAMS, free_port, serving
from bench.report import Aim, Result
from bench.rounds import Options

COLD_SECONDS, WARM_SECONDS = 10, 3


async def run(options: Options) -> Result:
    """Start in a folder of its own, stop, and start again: until the first 200 of readiness."""
    cold, warm = [], []
    for _ in range(options.size(3, 1)):
        with tempfile.TemporaryDirectory(prefix="cliniq-bench-") as name:
            cold.append(await _start(Path(name)))
            warm.append(await _start(Path(name)))
    usual = median(cold)
    return Result(
        "start",
        ratio=COLD_SECONDS / usual,
        ours=usual,
        yardstick=COLD_SECONDS,
        unit="s",
        aims=[
            Aim("seconds from nothing", usual, COLD_SECONDS, at_most=True),
            Aim("seconds again", median(warm), WARM_SECONDS, at_most=True),
        ],
        p50_ms=usual * 1000,
        p99_ms=max(cold) * 1000,
        facts={"warm_s": round(median(warm), 3), "slowest_warm_s": round(max(warm), 3)},
    )


async def _start(folder: Path) -> float:
    """Start it, and stop it once it is ready. Units: seconds."""
    port = free_port()
    settings = {
        "CLINIQ_DATA_DIR": str(folder / "var"),
        "CLINIQ_PORT": str(port),
        "CLINIQ_LOG_LEVEL": "warning",
    }
    async with serving(
        str(PROGRAMS / "cliniq"),
        "up",
        port=port,
        ready="/health/ready",
        journal=folder / "cliniq.log",
        env=settings,
    ) as served:
        return served.ready_after

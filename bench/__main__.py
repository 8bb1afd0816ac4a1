"""`python -m bench`: all; `python -m bench NAME --json`: one; `python -m bench seed`: people."""

import argparse
import importlib
import sys
from typing import Any

import uvloop
from rich.console import Console

from bench import seed
from bench.report import BenchFailed, Result, show
from bench.rounds import Options
from cliniq.platform.telemetry import configure_logs

NAMES = (
    "scan",
    "list",
    "one",
    "call",
    "rank",
    "import",
    "size",
    "start",
    "cache",
    "jobs",
    "live",
    "live2",
)
MODULES = {"import": "imports"}  # `import` is a word of Python


def main() -> int:
    """Run what was asked for. Exit code 1 where an answer was wrong; a missed aim is no error."""
    if sys.argv[1:2] == ["seed"]:
        return seed.main(sys.argv[2:])
    asked = _arguments()
    configure_logs("error")
    options = Options(asked.database_url, asked.smoke, asked.profile)
    console = Console(stderr=True)
    results: list[Result] = []
    try:
        for name in [asked.name] if asked.name else NAMES:
            with console.status(f"measuring {name}"):
                results.append(uvloop.run(_bench(name).run(options)))
    except BenchFailed as failure:
        console.print(f"bench: {failure}", style="red", markup=False, highlight=False)
        return 1
    if asked.json:
        for result in results:
            print(result.as_json())
    else:
        show(Console(width=None if sys.stdout.isatty() else 100), results)
    return 0


def _bench(name: str) -> Any:
    return importlib.import_module(f"bench.{MODULES.get(name, name)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, help="one bench instead of all")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, last")
    parser.add_argument("--smoke", action="store_true", help="tiny: only whether the benches work")
    parser.add_argument("--profile", action="store_true", help="say where the server's time goes")
    parser.add_argument(
        "--database-url", help="a superuser's URL of a server, instead of the embedded one"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

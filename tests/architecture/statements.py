"""Every module and every statement of the code, found once for those who look at all of them."""

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import cliniq
from cliniq.platform.db import ReadUnit
from cliniq.platform.sql import Statement

SRC = Path(__file__).parents[2] / "src/cliniq"
AnyStatement = Statement[Any, ..., Any]

MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(cliniq.__path__, "cliniq.")
]
STATEMENTS: dict[str, AnyStatement] = {
    thing.name: thing
    for module in MODULES
    for thing in vars(module).values()
    if isinstance(thing, Statement)
}


def room_of(statement: AnyStatement) -> str:
    """The room of a store: `cliniq.domains.<room>.store` or `cliniq.platform.<room>_store`."""
    *_, room, store = statement.name.split(".")[:-1]
    return room if store == "store" else store.removesuffix("_store")


def bare(text: str) -> str:
    """SQL without comments and literals, on one line."""
    return " ".join(re.sub(r"--.*|'[^']*'", "", text).lower().split())


def sinful(text: str, room: str) -> AnyStatement:
    """A statement as if it stood in a room's store."""
    statement: AnyStatement = Statement(text, anything)
    statement.name = f"cliniq.domains.{room}.store.sin"
    return statement


async def anything(unit: ReadUnit) -> None:
    raise NotImplementedError

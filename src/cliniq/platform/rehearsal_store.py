"""The only SQL of rehearsals. The owner writes the mark."""

from cliniq.platform.db import ReadUnit
from cliniq.platform.sql import sql


@sql("select exists (select from rehearsal)")
async def is_marked(unit: ReadUnit) -> bool:
    """Tell whether the database is a rehearsal."""

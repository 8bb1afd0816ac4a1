"""Pure decisions of the clinics room."""

from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from cliniq.domains.clinics.errors import ZoneUnknown


def ensure_zone(name: str) -> ZoneInfo:
    """Read an IANA zone.

    Raises: ZONE_UNKNOWN 409.
    """
    if name not in _zones():
        raise ZoneUnknown(zone=name[:64])
    return ZoneInfo(name)


@cache
def _zones() -> frozenset[str]:
    """List the zones of the world, once, since every file of them is opened for it.

    `localtime` and `Factory` are the machine's words for its own zone and for none.
    """
    return frozenset(available_timezones() - {"localtime", "Factory"})

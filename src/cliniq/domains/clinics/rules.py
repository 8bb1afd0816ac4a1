"""Pure decisions of the clinics room."""

from zoneinfo import ZoneInfo, available_timezones

from cliniq.domains.clinics.errors import ZoneUnknown


def ensure_zone(name: str) -> ZoneInfo:
    """Read an IANA zone.

    Raises: ZONE_UNKNOWN 409.
    """
    if name not in available_timezones():
        raise ZoneUnknown(zone=name[:64])
    return ZoneInfo(name)

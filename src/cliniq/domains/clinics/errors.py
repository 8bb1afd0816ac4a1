"""Every refusal this room can utter."""

from cliniq.kernel.problem import NotFound, RuleBroken


class SiteNotFound(NotFound):
    """The clinic has no such site."""

    code = "SITE_NOT_FOUND"
    title = "No such location in this clinic"


class ZoneUnknown(RuleBroken):
    """The name is no zone of the IANA time zone database."""

    code = "ZONE_UNKNOWN"
    title = "No such time zone; use an IANA name such as Europe/Vienna"

"""Classes of traffic, and how much of each a person, a clinic and an address may ask for."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from starlette.requests import HTTPConnection

from cliniq.kernel.record import Record
from cliniq.platform.http.address import counted_as
from cliniq.platform.limits import Hit, rule_of


class Traffic(StrEnum):
    """What a route is asked for, as far as limits are concerned."""

    READ = "read"
    WRITE = "write"
    SCAN = "scan"
    AUTH = "auth"
    LIVE = "live"
    PUBLIC = "public"
    NETWORK = "network"  # health and metrics: whoever reaches them is let in by the network


class Pace(Record, frozen=True):
    """Rules such as `30/minute` for whoever asks; none where there is no limit."""

    person: str | None = None
    clinic: str | None = None
    address: str | None = None


# A clinic, with its waiting room, is one address. What one person could guess is limited much
# further where it can be guessed.
PACES: Mapping[Traffic, Pace] = MappingProxyType(
    {
        Traffic.READ: Pace("1200/minute", "60000/minute", "60000/minute"),
        Traffic.WRITE: Pace("600/minute", "30000/minute", "30000/minute"),
        Traffic.SCAN: Pace("120/minute", "30000/minute", "30000/minute"),
        Traffic.AUTH: Pace("120/minute", None, "3000/minute"),
        Traffic.LIVE: Pace("240/minute", None, "30000/minute"),
        Traffic.PUBLIC: Pace(None, None, "12000/minute"),
        Traffic.NETWORK: Pace(),
    }
)


def scaled(paces: Mapping[Traffic, Pace], by: int) -> Mapping[Traffic, Pace]:
    """Multiply every limit."""

    def more(rule: str | None) -> str | None:
        if rule is None:
            return None
        return f"{rule_of(rule).amount * by}/{rule.partition('/')[2]}"

    return {
        traffic: Pace(more(pace.person), more(pace.clinic), more(pace.address))
        for traffic, pace in paces.items()
    }


def address_of(connection: HTTPConnection) -> str:
    """Say from where somebody asks, as it is counted; see `Proxies` for those in between."""
    return counted_as(connection.client.host) if connection.client else ""


def hits_of(
    traffic: Traffic, pace: Pace, address: str, person: UUID | None, clinic: UUID | None
) -> list[Hit]:
    """Say what a request counts for. The clinic's hit, if there is one, is the last."""
    hits = []
    if pace.address:
        hits.append(Hit(pace.address, (traffic, "address", address)))
    if pace.person and person:
        hits.append(Hit(pace.person, (traffic, "person", str(person))))
    if pace.clinic and clinic:
        hits.append(Hit(pace.clinic, (traffic, "clinic", str(clinic))))
    return hits

"""Outlets: a breaker and a bulkhead for each clinic towards each provider, in bounded number."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from datetime import datetime

from cliniq.kernel.ids import ClinicId
from cliniq.platform.outbound.breaker import Breaker, State
from cliniq.platform.outbound.bulkhead import Bulkhead
from cliniq.platform.outbound.provider import Provider

MOST_OUTLETS = 10_000


class Outlet:
    """A clinic's way to a provider, and the provider's own bulkhead behind it."""

    __slots__ = ("breaker", "bulkhead", "overall")

    def __init__(self, provider: Provider, overall: Bulkhead) -> None:
        self.breaker = Breaker(provider.trip)
        self.bulkhead = Bulkhead(provider.per_clinic)
        self.overall = overall


class Outlets:
    """Makes outlets as they are needed and forgets those that nobody used for longest.

    Bounds: `most`, and those in use. What is forgotten begins anew with its breaker closed.
    """

    def __init__(self, most: int = MOST_OUTLETS) -> None:
        self._most = most
        self._outlets: OrderedDict[tuple[ClinicId | None, str], Outlet] = OrderedDict()
        self._overall: dict[str, Bulkhead] = {}

    def __len__(self) -> int:
        return len(self._outlets)

    def of(self, clinic_id: ClinicId | None, provider: Provider) -> Outlet:
        """Return a clinic's outlet to a provider; without a clinic, the platform's own."""
        key = clinic_id, provider.name
        found = self._outlets.get(key)
        if found is None:
            self._make_room()
            overall = self._overall.get(provider.name)
            if overall is None:
                overall = self._overall[provider.name] = Bulkhead(provider.overall)
            found = self._outlets[key] = Outlet(provider, overall)
        else:
            self._outlets.move_to_end(key)
        return found

    def states(self, now: datetime) -> Counter[tuple[str, State]]:
        """Count breakers by provider and state."""
        return Counter(
            (name, outlet.breaker.state(now)) for (_, name), outlet in self._outlets.items()
        )

    def in_flight(self) -> Iterator[tuple[str, int]]:
        """Say how many calls to each provider are under way."""
        for name, bulkhead in self._overall.items():
            yield name, bulkhead.in_flight

    def _make_room(self) -> None:
        if len(self._outlets) < self._most:
            return
        idle = next((key for key, each in self._outlets.items() if each.bulkhead.is_idle), None)
        if idle is not None:
            del self._outlets[idle]

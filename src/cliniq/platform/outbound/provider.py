"""What is known of a provider, what is asked of it, and what it answers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from typing_extensions import override

from cliniq.kernel.record import Record
from cliniq.platform.outbound.breaker import Trip
from cliniq.platform.outbound.bulkhead import Bounds

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
HTTPS = frozenset({443})


class Provider(Record, frozen=True):
    """A service that is called, declared in code: its name labels metrics and traces.

    `is_plain` takes http too, `is_traced` tells it our trace, `hops` redirects of a GET are
    followed. Bounds: everything; the deadline spans all attempts and pauses.
    """

    name: str
    ports: frozenset[int] = HTTPS
    is_plain: bool = False
    is_traced: bool = False
    hops: int = 0
    deadline_seconds: float = 10
    connect_seconds: float = 3
    silence_seconds: float = 8
    largest_answer_bytes: int = 1 << 20
    attempts: int = 3
    pause_seconds: float = 0.2
    longest_pause_seconds: float = 2
    per_clinic: Bounds = Bounds(in_flight=8, waiting=32, patience_seconds=2)
    overall: Bounds = Bounds(in_flight=128, waiting=512, patience_seconds=2)
    trip: Trip = Trip()

    def __post_init__(self) -> None:
        """Refuse a name that could not be a label."""
        if not _NAME.fullmatch(self.name):
            raise ValueError("a provider's name is a short word in lower case")


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """What is asked. Headers and content hold secrets and stay out of `repr`.

    `expects` names statuses besides 2xx that the caller reads itself.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    expects: frozenset[int] = frozenset()

    @property
    def is_repeatable(self) -> bool:
        """Tell whether asking twice does no more than asking once."""
        return self.method in _SAFE or any(
            name.lower() == "idempotency-key" for name in self.headers
        )

    @override
    def __repr__(self) -> str:
        return f"Request({self.method})"


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """What was answered, whole; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Tell whether the provider did what it was asked."""
        return 200 <= self.status < 300  # noqa: PLR2004

    @override
    def __repr__(self) -> str:
        return f"Answer({self.status})"

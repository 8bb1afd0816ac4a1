"""The one error family. Every refusal the API can utter is a subclass of `Problem` (RFC 9457)."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, TypeAlias

from typing_extensions import override

Fact: TypeAlias = str | int | float | bool | list[str] | None


class Problem(Exception):
    """Something of ours broke; what it was is in our log, under the answer's `trace_id`.

    The root of every refusal too. Subclasses set `code` once and never change it: clients branch
    on it. `facts` become extension members of the JSON body; they carry no patient data. `headers`
    go onto the answer.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL"
    title: ClassVar[str] = "Unexpected error"
    is_denial: ClassVar[bool] = False  # somebody asked for what is not theirs: the audit remembers

    def __init__(self, **facts: Fact) -> None:
        super().__init__(self.code)
        self.facts = facts

    @property
    def headers(self) -> Mapping[str, str]:
        """Name the HTTP headers that belong to this refusal."""
        return {}


class Unauthenticated(Problem):
    """There is no valid sign-in behind the request."""

    status = 401
    code = "UNAUTHENTICATED"
    title = "Sign in first"

    @property
    @override
    def headers(self) -> Mapping[str, str]:
        """Name the scheme, as RFC 6750 asks."""
        return {"WWW-Authenticate": "Bearer"}


class Forbidden(Problem):
    """A member of the clinic lacks the permission."""

    status = 403
    code = "FORBIDDEN"
    title = "Your role may not do this"
    is_denial = True


class NotFound(Problem):
    """It does not exist, or it is not the caller's to know that it does."""

    status = 404
    code = "NOT_FOUND"
    title = "No such thing here"
    is_denial = True


class MethodNotAllowed(Problem):
    """The path exists, the method does not; `Allow` names those that do."""

    status = 405
    code = "METHOD_NOT_ALLOWED"
    title = "This address does not take that method"

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        super().__init__()
        self.allowed = sorted(allowed)

    @property
    @override
    def headers(self) -> Mapping[str, str]:
        """Name the methods, as RFC 9110 asks."""
        return {"Allow": ", ".join(self.allowed)} if self.allowed else {}


class Conflict(Problem):
    """The record is in a state that forbids the request."""

    status = 409
    code = "CONFLICT"
    title = "The record is in another state"


class RuleBroken(Problem):
    """A rule of the clinic forbids the request."""

    status = 409
    code = "RULE_BROKEN"
    title = "A clinic rule forbids this"


class InvalidTransition(Conflict):
    """The state does not allow the change; `allowed` names the states that can follow."""

    code = "INVALID_TRANSITION"
    title = "That is not possible in the present state"

    def __init__(self, from_: str, to: str, allowed: Iterable[str]) -> None:
        facts: dict[str, Fact] = {"from": from_, "to": to, "allowed": sorted(map(str, allowed))}
        super().__init__(**facts)


class PayloadTooLarge(Problem):
    """The body is larger than the API takes."""

    status = 413
    code = "PAYLOAD_TOO_LARGE"
    title = "The request is too large"


class RequestInvalid(Problem):
    """The request is malformed; `errors` says where and what is wrong, never the value."""

    status = 422
    code = "REQUEST_INVALID"
    title = "The request is malformed"


class RateLimitExceeded(Problem):
    """Too many requests of this kind; `retry_after_seconds` says when to come back."""

    status = 429
    code = "RATE_LIMIT_EXCEEDED"
    title = "Too many requests; wait a moment"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(retry_after_seconds=retry_after_seconds)
        self.retry_after_seconds = retry_after_seconds

    @property
    @override
    def headers(self) -> Mapping[str, str]:
        """Tell the wait in the standard header too."""
        return {"Retry-After": str(self.retry_after_seconds)}


class DependencyUnavailable(Problem):
    """Something that Cliniq leans on does not answer; `dependency` names it."""

    status = 503
    code = "DEPENDENCY_UNAVAILABLE"
    title = "A part of the system does not answer; try again shortly"

    def __init__(self, dependency: str) -> None:
        super().__init__(dependency=dependency)

    @property
    @override
    def headers(self) -> Mapping[str, str]:
        """Ask clients to come back in a second."""
        return {"Retry-After": "1"}

"""Every refusal of a call to a provider. None holds what the provider said, or where it is."""

from collections.abc import Mapping
from math import ceil

from typing_extensions import override

from cliniq.kernel.problem import Conflict, Problem


class OutboundAddressRefused(Conflict):
    """The address is not one that may be called from here; `reason` says by which rule.

    A name that does not exist is refused as one that is not public: who may name hosts must not
    learn which names our own network knows.
    """

    code = "OUTBOUND_ADDRESS_REFUSED"
    title = "That address cannot be called from here"

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason)


class OutboundRequestRefused(Problem):
    """The request to the provider is malformed; `part` says where, never with the value."""

    status = 422
    code = "OUTBOUND_REQUEST_REFUSED"
    title = "The message cannot be sent in this form"

    def __init__(self, part: str) -> None:
        super().__init__(part=part)


class ProviderRefused(Conflict):
    """The provider answered, and refused: credentials, recipient or plan; see its status."""

    code = "PROVIDER_REFUSED"
    title = "The provider refuses this"

    def __init__(self, provider: str, provider_status: int) -> None:
        super().__init__(provider=provider, provider_status=provider_status)
        self.provider_status = provider_status


class ProviderUnavailable(Problem):
    """The provider does not answer, or not with sense.

    `may_have_arrived`: it may have done what was asked; nobody can know. `may_repeat`: it is of the
    kind that passes. `retry_after_seconds` is its own word, or how long nothing can be sent.
    """

    status = 503
    code = "PROVIDER_UNAVAILABLE"
    title = "The provider does not answer; try again shortly"

    def __init__(
        self,
        dependency: str,
        retry_after_seconds: float | None = None,
        *,
        may_have_arrived: bool = False,
        may_repeat: bool = False,
    ) -> None:
        super().__init__(dependency=dependency)
        self.retry_after_seconds = retry_after_seconds
        self.may_have_arrived = may_have_arrived
        self.may_repeat = may_repeat

    @property
    @override
    def headers(self) -> Mapping[str, str]:
        """Tell when another try makes sense."""
        return {"Retry-After": str(max(1, ceil(self.retry_after_seconds or 1)))}


class ProviderPaused(ProviderUnavailable):
    """The provider failed too often and is left alone for a while; nothing was sent."""

    code = "PROVIDER_PAUSED"
    title = "The provider failed too often and is left alone for a while"


class ProviderBusy(ProviderUnavailable):
    """The clinic has as many calls to this provider under way as it may; nothing was sent."""

    code = "PROVIDER_BUSY"
    title = "Too many calls to this provider are under way"


class ProviderAnswerUnusable(ProviderUnavailable):
    """The provider answered with something too large, encoded or elsewhere."""

    code = "PROVIDER_ANSWER_UNUSABLE"
    title = "The provider's answer cannot be used"

"""The one client for providers: opened once by a composition root, never used inside a unit."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import partial
from secrets import SystemRandom
from ssl import SSLContext
from time import perf_counter

import httpx2
import stamina

from cliniq.kernel.ids import ClinicId
from cliniq.kernel.problem import Problem
from cliniq.platform.clock import Clock
from cliniq.platform.db import ensure_outside_units
from cliniq.platform.outbound.addresses import Network
from cliniq.platform.outbound.bulkhead import BulkheadFull
from cliniq.platform.outbound.exchange import exchange
from cliniq.platform.outbound.outlets import Outlet, Outlets
from cliniq.platform.outbound.provider import Answer, Provider, Request
from cliniq.platform.outbound.refusals import (
    ProviderAnswerUnusable,
    ProviderBusy,
    ProviderPaused,
    ProviderRefused,
    ProviderUnavailable,
)
from cliniq.platform.outbound.resolver import Resolve, SystemResolver
from cliniq.platform.outbound.soundness import ensure_sound, read_url
from cliniq.platform.outbound.transport import GuardedTransport
from cliniq.platform.telemetry import Metrics
from cliniq.platform.traces import span

BUSY, BROKEN, PASSING = 429, 500, frozenset({502, 503, 504})

_CHANCE = SystemRandom()


class Outbound:
    """Calls providers. Each clinic has a breaker and a bulkhead of its own towards each of them."""

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport,
        wall: Clock,
        metrics: Metrics,
        outlets: Outlets | None = None,
    ) -> None:
        self._transport = transport
        self._wall = wall
        self._metrics = metrics
        self._outlets = outlets or Outlets()
        metrics.before_reading(self._count)

    async def call(
        self, clinic_id: ClinicId | None, provider: Provider, request: Request
    ) -> Answer:
        """Ask a provider and give its answer: 2xx, or a status that the request expects.

        Bounds: all of it ends by the provider's deadline. It is asked again only where that does no
        harm, or where nothing had been done.
        Raises: OUTBOUND_ADDRESS_REFUSED, PROVIDER_REFUSED 409; OUTBOUND_REQUEST_REFUSED 422;
        PROVIDER_UNAVAILABLE, PROVIDER_PAUSED, PROVIDER_BUSY, PROVIDER_ANSWER_UNUSABLE 503.
        InsideUnit where a transaction would wait for the provider.
        """
        ensure_outside_units()
        began, outcome = perf_counter(), "CANCELLED"
        try:
            with span("call provider", kind="client", provider=provider.name) as opened:
                answer = await self._call(clinic_id, provider, request)
                opened.set_attribute("http.response.status_code", answer.status)
            outcome = "OK"
        except Problem as problem:
            outcome = problem.code
            raise
        finally:
            self._metrics.outbound_calls.labels(provider.name, outcome).inc()
            self._metrics.outbound_seconds.labels(provider.name).observe(perf_counter() - began)
        return answer

    async def _call(
        self, clinic_id: ClinicId | None, provider: Provider, request: Request
    ) -> Answer:
        ensure_sound(request)
        url = read_url(request.url, provider)
        outlet = self._outlets.of(clinic_id, provider)
        try:
            async with asyncio.timeout(provider.deadline_seconds) as deadline:
                answer = await stamina.AsyncRetryingCaller(provider.attempts, timeout=None)(
                    _patience(provider, request, deadline),
                    partial(self._attempt, outlet, provider, request, url, deadline),
                )
        except TimeoutError:
            raise ProviderUnavailable(provider.name, may_have_arrived=True) from None
        if answer.is_success or answer.status in request.expects:
            return answer
        if answer.status >= BROKEN:
            raise ProviderUnavailable(provider.name, may_have_arrived=True)
        raise ProviderRefused(provider.name, answer.status)

    async def _attempt(
        self,
        outlet: Outlet,
        provider: Provider,
        request: Request,
        url: httpx2.URL,
        deadline: asyncio.Timeout,
    ) -> Answer:
        """Try once, if breaker and bulkheads let us, and tell the breaker how it ended."""
        breaker = outlet.breaker
        if wait := breaker.wait_seconds(self._wall()):
            raise ProviderPaused(provider.name, wait)
        try:
            async with outlet.bulkhead, outlet.overall:
                era = breaker.enter(self._wall())
                if era is None:  # it opened while we waited
                    raise ProviderPaused(provider.name, breaker.wait_seconds(self._wall()))
                well: bool | None = None
                try:
                    answer = await exchange(self._transport, provider, request, url)
                    well = _tells_well(answer.status)
                except BaseException as error:
                    well = _tells_of(error, deadline)
                    raise
                finally:
                    breaker.leave(era, self._wall(), well=well)
        except BulkheadFull:
            raise ProviderBusy(provider.name) from None
        if answer.status in PASSING or answer.status == BUSY:
            raise ProviderUnavailable(
                provider.name,
                _retry_after(answer, self._wall()),
                may_have_arrived=answer.status != BUSY,
                may_repeat=True,
            )
        return answer

    def _count(self) -> None:
        """Say what is so just now, for whoever reads the metrics."""
        for name, calls in self._outlets.in_flight():
            self._metrics.outbound_in_flight.labels(name).set(calls)
        self._metrics.outbound_breakers.clear()
        for (name, state), breakers in self._outlets.states(self._wall()).items():
            self._metrics.outbound_breakers.labels(name, state).set(breakers)


def _tells_well(status: int) -> bool | None:
    """Say what a status tells of the provider's health; too many requests are our own doing."""
    return None if status == BUSY else status < BROKEN


def _tells_of(error: BaseException, deadline: asyncio.Timeout) -> bool | None:
    match error:
        case ProviderAnswerUnusable():
            return True
        case ProviderBusy():
            return None
        case ProviderUnavailable():
            return False
        case asyncio.CancelledError():
            return False if deadline.expired() else None
        case _:
            return None


def _patience(
    provider: Provider, request: Request, deadline: asyncio.Timeout
) -> Callable[[Exception], bool | float]:
    """Make what says, of a failure, how many seconds later it is tried again, or not at all."""
    loop = asyncio.get_running_loop()
    longest = provider.pause_seconds

    def pause_after(error: Exception) -> bool | float:
        nonlocal longest
        if not isinstance(error, ProviderUnavailable) or not error.may_repeat:
            return False
        if error.may_have_arrived and not request.is_repeatable:
            return False
        pause = max(error.retry_after_seconds or 0, _CHANCE.uniform(0, longest))
        longest = min(longest * 2, provider.longest_pause_seconds)
        until = deadline.when()
        return pause if until is not None and loop.time() + pause < until else False

    return pause_after


def _retry_after(answer: Answer, now: datetime) -> float | None:
    """Read how long the provider asks us to wait: seconds, or an instant."""
    told = answer.headers.get("retry-after", "")
    if told.isascii() and told.isdecimal():
        return float(told[:9])
    try:
        return max(0.0, (parsedate_to_datetime(told) - now).total_seconds())
    except (TypeError, ValueError):  # nothing, no date, or one without a zone
        return None


@asynccontextmanager
async def open_outbound(
    wall: Clock,
    metrics: Metrics,
    *,
    resolve: Resolve | None = None,
    allowed: Collection[Network] = (),
    trust: SSLContext | None = None,
) -> AsyncIterator[Outbound]:
    """Open the client. `allowed` are networks that may be called although they are not public."""
    stamina.instrumentation.set_on_retry_hooks([])  # ours are counted; its log would name values
    transport = GuardedTransport(resolve or SystemResolver(), allowed, trust)
    async with transport:
        yield Outbound(transport, wall, metrics)

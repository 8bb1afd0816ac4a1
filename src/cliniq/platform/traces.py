"""Traces: a request, the jobs it causes and what sockets show of it are one story (OpenTelemetry).

Spans carry routes, names and ids of our own; never a person's name, address, token or query.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_KEY = "traceparent"


def carrier() -> str:
    """Write down the present span as a W3C `traceparent`, to be continued elsewhere; or nothing."""
    written: dict[str, str] = {}
    _PROPAGATOR.inject(written)
    return written.get(_KEY, "")


@contextmanager
def span(name: str, *, parent: str = "", **attributes: str | int | bool) -> Iterator[trace.Span]:
    """Open a span, as a child of `parent` (a `traceparent`) or else of the present one."""
    context = _PROPAGATOR.extract({_KEY: parent}) if parent else None
    tracer = trace.get_tracer("cliniq")
    with tracer.start_as_current_span(name, context, attributes=attributes) as opened:
        yield opened

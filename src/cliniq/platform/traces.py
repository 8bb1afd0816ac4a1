"""Traces: what one request caused, across processes. Ids travel with an event as a `traceparent`.

Whether a process traces is decided once, by its composition root; where it does not, all of this
costs a look. Attributes are ids of ours, names of ours and numbers: never a person's, never a URL.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cliniq import __version__
from cliniq.kernel.problem import Problem

Kind: TypeAlias = Literal["internal", "server", "client", "producer", "consumer"]
Value: TypeAlias = str | int | bool

COLLECTOR_SECONDS = 3  # for one batch to be taken; more are lost rather than waited for

_PROPAGATOR = TraceContextTextMapPropagator()
_KEY = "traceparent"
_NOTHING = nullcontext(trace.INVALID_SPAN)


@dataclass(slots=True)
class _Tracing:
    """Whether this process traces."""

    tracer: trace.Tracer | None = None


_TRACING = _Tracing()


@contextmanager
def configure_traces(otlp_url: str | None, role: str) -> Iterator[None]:
    """Trace while this is open, if there is somewhere to send traces to (OTLP over HTTP).

    The role names the process: api, worker. How many are kept, `OTEL_TRACES_SAMPLER` says; what is
    told by an event or a request of ours is kept or not as its beginning was.
    """
    if otlp_url is None:
        yield
        return
    path = "" if otlp_url.endswith("/v1/traces") else "/v1/traces"
    exporter = OTLPSpanExporter(f"{otlp_url}{path}", timeout=COLLECTOR_SECONDS)
    with keep_traces(BatchSpanProcessor(exporter), role):
        yield


@contextmanager
def keep_traces(processor: SpanProcessor, role: str) -> Iterator[None]:
    """Trace while this is open, and hand every span that ends to `processor`."""
    service = {SERVICE_NAME: f"cliniq-{role}", SERVICE_VERSION: __version__}
    provider = TracerProvider(resource=Resource.create(service), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    before, _TRACING.tracer = _TRACING.tracer, provider.get_tracer("cliniq", __version__)
    try:
        yield
    finally:
        _TRACING.tracer = before
        provider.shutdown()


def is_tracing() -> bool:
    """Tell whether this process traces."""
    return _TRACING.tracer is not None


def carrier() -> str:
    """Write down the present span as a W3C `traceparent`, to be continued elsewhere; or nothing."""
    if _TRACING.tracer is None:
        return ""
    here = trace.get_current_span().get_span_context()
    if not here.is_valid:
        return ""
    return f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags & 0xFF:02x}"


def trace_id() -> str:
    """Name the present trace, for a line in the log; or nothing."""
    if _TRACING.tracer is None:
        return ""
    here = trace.get_current_span().get_span_context()
    return f"{here.trace_id:032x}" if here.is_valid else ""


def span(
    name: str,
    /,
    *,
    parent: str = "",
    links: Iterable[str] = (),
    kind: Kind = "internal",
    **attributes: Value,
) -> AbstractContextManager[trace.Span]:
    """Open a span, as a child of `parent` (a `traceparent`) or else of the present one.

    `links` are the traces that it serves without being their child, as a batch of events does.
    What is raised in it marks it by its kind or code, never by its message.
    """
    if _TRACING.tracer is None:
        return _NOTHING
    return _open(_TRACING.tracer, name, parent, links, kind, attributes)


def note(name: str, /, **attributes: Value) -> None:
    """Note a moment in the present span."""
    if _TRACING.tracer is not None:
        trace.get_current_span().add_event(name, attributes)


@contextmanager
def _open(
    tracer: trace.Tracer,
    name: str,
    parent: str,
    links: Iterable[str],
    kind: Kind,
    attributes: dict[str, Value],
) -> Iterator[trace.Span]:
    with tracer.start_as_current_span(
        name,
        _read(parent) if parent else None,
        trace.SpanKind[kind.upper()],
        attributes,
        [trace.Link(each) for each in map(_context, links) if each.is_valid],
        record_exception=False,  # it would hold the message and the stack
        set_status_on_exception=False,
    ) as opened:
        try:
            yield opened
        except Problem as problem:
            opened.set_attribute("cliniq.code", problem.code)
            raise
        except BaseException as error:
            opened.set_attribute("error.type", type(error).__qualname__)
            opened.set_status(trace.StatusCode.ERROR)
            raise


def _read(traceparent: str) -> Context:
    return _PROPAGATOR.extract({_KEY: traceparent}, Context())


def _context(traceparent: str) -> trace.SpanContext:
    return trace.get_current_span(_read(traceparent)).get_span_context()

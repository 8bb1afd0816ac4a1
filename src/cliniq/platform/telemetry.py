"""Logs and metrics: never a name, a phone, a diagnosis, a token or an address of a person."""

import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from structlog.typing import EventDict, WrappedLogger
from typing_extensions import override

from cliniq.platform.traces import trace_id

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5)
SLOW_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def configure_logs(level: str) -> None:
    """Write one JSON object a line to standard error, from this level on."""
    floor = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _say_which_trace,
            _say_where,
            structlog.processors.JSONRenderer(serializer=_encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(floor),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    logging.basicConfig(level=max(floor, logging.WARNING), handlers=[handler])


class _Line(logging.Formatter):
    """What libraries log, as JSON too: the first line, since what follows may hold values."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "logger": record.name,
            "event": record.getMessage().strip().partition("\n")[0],
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        if record.exc_info and record.exc_info[1]:
            entry["trace"] = _trace(record.exc_info[1])
        return _encode(entry).decode()


def _say_which_trace(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Write in which trace it happened; `trace_id` is the request's id, in answers and here."""
    if trace := trace_id():
        entry["otel_trace_id"] = trace
    return entry


def _say_where(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Write where an error comes from in place of what it says."""
    error = entry.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        entry["trace"] = _trace(error)
    return entry


def _trace(error: BaseException) -> str:
    """Describe an error and its causes without their messages: PostgreSQL's hold whole rows."""
    causes: list[str] = []
    each: BaseException | None = error
    while each is not None:
        facts = [getattr(each, name, None) for name in ("sqlstate", "constraint_name")]
        kind = f"{type(each).__module__}.{type(each).__qualname__}"
        said = " ".join([kind, *(str(fact) for fact in facts if fact)])
        causes.append("".join([*traceback.format_tb(each.__traceback__), said]))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "\n\n".join(reversed(causes))


def _encode(entry: object, **_: object) -> bytes:
    return msgspec.json.encode(entry, enc_hook=str)


class Metrics:
    """What Prometheus reads at `/metrics`; labels are routes and codes, never people."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "cliniq_http_request_seconds",
            "Time to answer, by route template",
            ["method", "route", "status"],
            registry=self.registry,
            buckets=LATENCY_BUCKETS,
        )
        self.problems = Counter(
            "cliniq_problems",
            "Refusals, by code",
            ["code"],
            registry=self.registry,
        )
        self.sockets = Gauge(
            "cliniq_live_sockets", "Live sockets of this process", registry=self.registry
        )
        self.unshared_hits = Gauge(
            "cliniq_limits_unshared_hits",
            "Hits that were counted in this process alone since Redis did not answer",
            registry=self.registry,
        )
        self.connections = Gauge(
            "cliniq_database_connections",
            "Connections, by pool and whether they are in use",
            ["pool", "state"],
            registry=self.registry,
        )
        self.waiting = Gauge(
            "cliniq_database_waiting",
            "Units that wait for a connection, by database role",
            ["role"],
            registry=self.registry,
        )
        self.slow_statements = Histogram(
            "cliniq_slow_statement_seconds",
            "Statements slower than CLINIQ_SLOW_QUERY_MS, by name",
            ["statement"],
            registry=self.registry,
            buckets=SLOW_BUCKETS,
        )
        self.outbound_calls = Counter(
            "cliniq_outbound_calls",
            "Calls to providers, by how they ended",
            ["provider", "outcome"],
            registry=self.registry,
        )
        self.outbound_seconds = Histogram(
            "cliniq_outbound_seconds",
            "Time of a call to a provider, with all its attempts",
            ["provider"],
            registry=self.registry,
            buckets=SLOW_BUCKETS,
        )
        self.outbound_in_flight = Gauge(
            "cliniq_outbound_in_flight",
            "Calls to providers that are under way",
            ["provider"],
            registry=self.registry,
        )
        self.outbound_breakers = Gauge(
            "cliniq_outbound_breakers",
            "Breakers, one for each clinic that calls a provider, by state",
            ["provider", "state"],
            registry=self.registry,
        )
        self.jobs = Gauge(
            "cliniq_jobs", "Jobs, by lane and state", ["lane", "state"], registry=self.registry
        )
        self.job_age = Gauge(
            "cliniq_jobs_oldest_seconds",
            "How long the oldest job of a lane has waited for its turn",
            ["lane"],
            registry=self.registry,
        )
        self.job_runs = Counter(
            "cliniq_job_runs",
            "Runs of jobs, by outcome",
            ["lane", "outcome"],
            registry=self.registry,
        )
        self._readings: list[Callable[[], None]] = []

    def count_slow(self, statement: str, seconds: float) -> None:
        """Count a slow statement; its name is one of those that are declared."""
        self.slow_statements.labels(statement).observe(seconds)

    def before_reading(self, count: Callable[[], None]) -> None:
        """Have something counted whenever the metrics are read."""
        self._readings.append(count)

    def show(self, collectors: Iterable[Collector]) -> None:
        """Show what another part of the process counts."""
        for each in collectors:
            self.registry.register(each)

    def exposition(self) -> bytes:
        """Write the metrics in Prometheus' text format."""
        for count in self._readings:
            count()
        return generate_latest(self.registry)


class CacheCounts(Collector):
    """Reads of the cache, by where the answer was found: it counts in plain numbers, for speed."""

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    @override
    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "cliniq_cache_reads",
            "Reads of the cache: hit in memory or on the shelf, waited, loaded; and shelf failures",
            labels=["outcome"],
        )
        for outcome, count in self._counts().items():
            family.add_metric([outcome], count)
        yield family

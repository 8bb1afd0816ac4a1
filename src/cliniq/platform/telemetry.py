"""Logs and metrics: never a name, a phone, a diagnosis, a token or an address of a person."""

import logging
import sys
import traceback
from datetime import UTC, datetime

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from structlog.typing import EventDict, WrappedLogger
from typing_extensions import override

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5)


def configure_logs(level: str) -> None:
    """Write one JSON object a line to standard error, from this level on."""
    floor = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
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

    def exposition(self) -> bytes:
        """Write the metrics in Prometheus' text format."""
        return generate_latest(self.registry)

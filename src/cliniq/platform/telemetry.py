"""Logs and metrics: never a name, a phone, a diagnosis, a token or an address of a person."""

import logging
import sys

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5)


def configure_logs(level: str) -> None:
    """Write one JSON object a line to standard error, from this level on."""
    floor = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(floor),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(floor, logging.WARNING), stream=sys.stderr, format="%(message)s")


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
        self.connections = Gauge(
            "cliniq_database_connections",
            "Connections, by pool and whether they are in use",
            ["pool", "state"],
            registry=self.registry,
        )

    def exposition(self) -> bytes:
        """Write the metrics in Prometheus' text format."""
        return generate_latest(self.registry)

"""Metrics of several processes as one page: each series says which process it is of."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from typing_extensions import override

LABEL = "process"


def merged(pages: Mapping[str, bytes]) -> bytes:
    """Join pages in Prometheus' text format, by the name of the process.

    A family that several processes have appears once. Nothing is added up: Prometheus does that.
    """
    families: dict[str, Metric] = {}
    for name, page in pages.items():
        for family in text_string_to_metric_families(page.decode()):
            whole = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            whole.samples += [_labelled(sample, name) for sample in family.samples]
    registry = CollectorRegistry()
    registry.register(_Found(families.values()))
    return generate_latest(registry)


def _labelled(sample: Sample, name: str) -> Sample:
    return sample._replace(labels={LABEL: name, **sample.labels})


class _Found(Collector):
    """What was read already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    @override
    def collect(self) -> Iterable[Metric]:
        """Hand it over."""
        return self._families

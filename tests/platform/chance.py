"""How properties are tried: the same examples every time, however slow the machine is."""

from hypothesis import HealthCheck, settings

STEADY = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], max_examples=150
)

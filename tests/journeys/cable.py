"""A host of the tests' own behind a cable that can be cut: a network namespace and a pair of ends.

Needs Linux, root and iproute2. Cut, packets vanish as in a broken network: nobody is told.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_hex

import pytest

from tests.journeys.network import alone_on_the_network

CI = "CI"


@dataclass(frozen=True)
class Cable:
    """The host at the far end: its address, and ours as it sees it."""

    namespace: str
    near: str
    far: str
    end: str

    def inside(self, *command: str) -> Sequence[str]:
        """Write a command so that it runs on the far host."""
        return ("ip", "netns", "exec", self.namespace, *command)

    def cut(self) -> None:
        """Lose every packet from now on."""
        _run("ip", "netns", "exec", self.namespace, "ip", "link", "set", "far", "down")

    def mend(self) -> None:
        """Carry packets again."""
        _run("ip", "netns", "exec", self.namespace, "ip", "link", "set", "far", "up")


@contextmanager
def laid_cable() -> Iterator[Cable]:
    """Make a host and lay a cable to it; both are gone afterwards.

    Skips where the machine cannot, and fails there in CI.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        reason = "a cable needs root and iproute2"
        if os.environ.get(CI):  # noqa: TID251 - the tests' own
            pytest.fail(reason)
        pytest.skip(reason)
    tag = token_hex(3)
    third = int(tag[:2], 16)
    cable = Cable(f"cliniq-{tag}", f"10.231.{third}.1", f"10.231.{third}.2", f"cq{tag}")
    with alone_on_the_network():
        _run("ip", "netns", "add", cable.namespace)
        try:
            _lay(cable)
            yield cable
        finally:
            _run("ip", "netns", "delete", cable.namespace)


def _lay(cable: Cable) -> None:
    _run(
        *("ip", "link", "add", cable.end, "type", "veth"),
        *("peer", "name", "far", "netns", cable.namespace),
    )
    _run("ip", "addr", "add", f"{cable.near}/30", "dev", cable.end)
    _run("ip", "link", "set", cable.end, "up")
    for words in (
        ("addr", "add", f"{cable.far}/30", "dev", "far"),
        ("link", "set", "lo", "up"),
        ("link", "set", "far", "up"),
    ):
        _run("ip", "netns", "exec", cable.namespace, "ip", *words)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=10)

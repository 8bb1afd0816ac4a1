"""One live connection's outgoing side, a socket's or a stream's: frames wait here to be taken."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from cliniq.platform.live_frames import Frame

MOST_FRAMES = 256  # a reader that falls this far behind is cut off

NORMAL, POLICY_VIOLATION, INTERNAL_ERROR = 1000, 1008, 1011
SERVICE_RESTART, TRY_AGAIN_LATER = 1012, 1013  # RFC 6455 and its registry


class Connection:
    """Bounded: whoever does not read is closed, and nothing that waits is kept for them."""

    __slots__ = (
        "_wake",
        "address",
        "code",
        "frames",
        "is_over",
        "person_id",
        "reason",
        "session_id",
        "subscriptions",
    )

    def __init__(
        self, session_id: UUID, person_id: UUID | None = None, address: str | None = None
    ) -> None:
        self.session_id = session_id
        self.person_id = person_id
        self.address = address
        self.frames: list[Frame] = []  # an idle one is smaller than a deque
        self.subscriptions: dict[str, Any] = {}  # by topic; the hub's
        self.is_over = False  # no frame is taken any more
        self.code, self.reason = NORMAL, ""  # what it ends with
        self._wake: Callable[[], None] | None = None

    def attend(self, wake: Callable[[], None]) -> None:
        """Have `wake` called whenever there is something to take, or the end has come."""
        self._wake = wake
        if self.frames or self.is_over:
            wake()

    def leave(self) -> None:
        """Call nobody any more: whoever takes the frames has gone."""
        self._wake = None

    def send(self, frame: Frame) -> None:
        """Put a frame in line; a reader that is too far behind is closed instead."""
        if self.is_over:
            return
        if len(self.frames) >= MOST_FRAMES:
            self.close(TRY_AGAIN_LATER, "SLOW_CONSUMER")
            return
        self.frames.append(frame)
        if self._wake:
            self._wake()

    def take(self) -> list[Frame]:
        """Take all that waits."""
        taken, self.frames = self.frames, []
        return taken

    def close(self, code: int, reason: str) -> None:
        """End it; what still waits is dropped."""
        self.frames.clear()
        self.is_over = False
        self.finish(code, reason)

    def finish(self, code: int, reason: str) -> None:
        """End it once it has taken what still waits; the first reason counts."""
        if self.is_over:
            return
        self.is_over = True
        self.code, self.reason = code, reason
        if self._wake:
            self._wake()

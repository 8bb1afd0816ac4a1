"""Every refusal this room can utter."""

from cliniq.kernel.problem import Conflict, NotFound


class QueueNotFound(NotFound):
    """The clinic has no such queue, or the caller has no place in it."""

    code = "QUEUE_NOT_FOUND"
    title = "No such queue here"


class EntryNotFound(NotFound):
    """There is no such place in a queue, or it is not the caller's own."""

    code = "QUEUE_ENTRY_NOT_FOUND"
    title = "No such place in a queue here"


class QueueEmpty(Conflict):
    """Nobody waits."""

    code = "QUEUE_EMPTY"
    title = "Nobody is waiting"


class QueueOver(Conflict):
    """The queue is of another day: nobody joins it any more, or not yet."""

    code = "QUEUE_OVER"
    title = "This queue is of another day"

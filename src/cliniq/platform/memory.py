"""How often the process looks for garbage that holds itself. All other garbage goes at once."""

import gc

# A young object is looked at after 5,000 others, an old one after two million: twice as many as
# ten thousand sockets hold, so that their coming alone makes nobody stand still.
THRESHOLDS = 5_000, 20, 20


def settle() -> None:
    """Never look again at what there is now: it is there for as long as the process is.

    A full look stands still for a third of a second with five thousand sockets, and the collector's
    own thresholds have one take place each time their number has grown by a quarter.
    """
    gc.set_threshold(*THRESHOLDS)
    gc.collect()
    gc.freeze()

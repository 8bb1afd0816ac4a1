"""The command line: a composition root for operators."""

import gc

gc.set_threshold(
    100_000
)  # what is imported stays: to look for garbage in it costs a sixth of a start

"""The command line: a composition root for operators."""

import gc

# What is imported stays: to look for garbage in it costs a sixth of a start.
gc.set_threshold(100_000)

"""The command line: a composition root for operators."""

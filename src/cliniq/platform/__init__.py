"""Input and output, without a word of the clinic: every room stands on it."""

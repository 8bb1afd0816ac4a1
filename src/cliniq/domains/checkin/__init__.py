"""Check-in: a scanned code becomes an arrival at the right visit, once. Nobody depends on it."""

"""Check-in: a code at the door, scanned, becomes an arrival at the right visit, once. Nobody depends on it."""

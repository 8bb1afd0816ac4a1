"""Scheduling: bookings, and the claims by which nobody is in two places at once."""

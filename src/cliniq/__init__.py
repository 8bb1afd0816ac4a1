"""Cliniq runs clinics: a scan at the door becomes a ticket and a live, honest place in the queue."""

__version__ = "0.1.0"

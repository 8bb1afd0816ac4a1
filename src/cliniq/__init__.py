"""Cliniq runs clinics: a scan at the door becomes a ticket and a live place in the queue."""

__version__ = "0.1.0"

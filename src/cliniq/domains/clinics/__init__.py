"""Clinics: clinics, their sites, and the points at which people arrive."""

"""Patients: a person in a clinic, and those who act for them."""

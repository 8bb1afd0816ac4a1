"""Intake: patients and visits that other systems hand over in files."""

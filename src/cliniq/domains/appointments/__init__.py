"""Appointments: the life of a visit, from booking to completion, through one function."""

"""Appointments: the life of a visit, from booking to completion. Each change passes one function."""

"""Calls to providers: bounded in time, in size and in number, and only to public addresses."""

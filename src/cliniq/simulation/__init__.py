"""A clinic's day, played by many people through the public API: for demos, for load, for proofs.

It plays in a marked rehearsal only. Clinic time is turned in small ticks, and what happens at one
is answered before the next: so a seed is a story, however fast the machine is.
"""

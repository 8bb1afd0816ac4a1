"""Queue: who waits where today, in which order, and who is called next."""

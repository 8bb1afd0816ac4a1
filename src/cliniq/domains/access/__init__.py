"""Access: who is what in which clinic, and the one question that every guard asks."""

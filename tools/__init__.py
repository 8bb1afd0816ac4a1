"""What developers run: the reference, the proofs."""

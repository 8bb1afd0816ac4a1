"""The API as a stranger tries it who has read its document, and nothing else."""

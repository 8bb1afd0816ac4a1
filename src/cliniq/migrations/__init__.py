"""The schema, step by step: plain SQL, forward only, run by `platform.migrate`."""

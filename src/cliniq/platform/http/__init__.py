"""Our thin skin over FastAPI: guards that hand over a unit, doors that refuse to be unguarded."""

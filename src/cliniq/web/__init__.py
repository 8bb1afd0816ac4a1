"""The pages: static files, served as they are."""

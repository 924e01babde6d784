"""Measurements of the API: `python -m deploy.bench.api` (make bench-api)."""

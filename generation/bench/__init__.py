"""Measurements of the API: `python -m generation.bench` (make bench-api)."""

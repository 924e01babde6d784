"""Benchmarks: each prints a table with a baseline of the same run, and writes it to docs/benchmarks."""

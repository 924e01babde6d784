"""Benchmarks: each prints a table beside a named baseline of the same run, and writes it below docs/benchmarks."""

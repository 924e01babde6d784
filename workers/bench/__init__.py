"""Benchmarks: programs that print a table beside a named baseline of the same run, and write it below docs/benchmarks."""

"""The fault tests: `python -m workers.tests.faults` breaks one thing at a time under work and counts what was lost."""

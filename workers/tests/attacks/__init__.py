"""One customer attacks the running product, another one's answers are timed. `make test-attacks` runs it."""

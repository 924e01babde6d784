"""The runtimes of a model side by side: `make bench-models` and `manage.py compare MODEL`."""

"""Parts of the web process: its threads, and the bounds of what comes in."""

"""The command line: `imagegenx --help`."""

"""The team of the caller and its members."""

"""Bytes in, keys and URLs out: where pictures live and how they are read again."""

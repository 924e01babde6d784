"""Stores pictures: bytes in, keys and URLs out."""

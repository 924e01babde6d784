"""Stores, folders and limits of a test are its own."""

from fixtures.rows import fresh_limits, own_folders

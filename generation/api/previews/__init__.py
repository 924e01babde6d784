"""Previews: what a picture will become, before a task is made of it."""

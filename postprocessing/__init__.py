"""From the engine's raw picture to the finished file: arrays in, bytes out. No database, no storage, no web."""

"""From the engine's raw picture to the file a customer keeps: arrays in, bytes out. No database, no storage, no web."""

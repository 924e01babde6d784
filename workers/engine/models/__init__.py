"""Models: what one is to the engine (interface), which there are (families, lama, remote), their memory (pool)."""

"""How many devices a load needs: arrivals and devices are simulated, the order of the queues is the real one.

Tasks go through the same Lua scripts as in the product, in a Redis database of their own, on a virtual clock; who
shares a step is decided by the engine's policy. Left out: expiry, failures, the stages after the GPU.

A step of a batch costs max(floor, fixed + per_sample * samples) ms at 512x512 pixels, in proportion to the pixels for
other sizes.
"""

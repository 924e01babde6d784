"""Weights as people keep them, and how they become what the engine loads: a folder in diffusers' format.

files.py           what a file says of itself: names and shapes of its tensors; pickles are refused
recognition.py     what it is, by those names: a model of which family, a LoRA, a ControlNet, a VAE, an ESRGAN network
configurations.py  the configurations that ship (configurations/*.json), so that nothing is fetched
single_file.py     a single-file checkpoint -> a folder
"""

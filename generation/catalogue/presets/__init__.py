"""Public models by name: `manage.py models pull sdxl`.

memory.py      what a preset weighs, computed from its numbers of weights
hub.py         files of a hub, or of an address, onto this disk: resumed, verified
pulling.py     a preset's files beside the models, verified, moved into their place, registered last
requested.py   pulls that were asked for in the admin
incoming.py    imports that were asked for in the admin
registry.py    the rows of what was pulled or imported; how to get what is not there yet
checking.py    whether a model's files are what they should be
removal.py     a model leaves, with its files
"""

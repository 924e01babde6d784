"""What people have becomes a model that can be asked for: `manage.py models import PATH`.

importer.py   a path is looked at, and goes where it belongs
folders.py    folders in diffusers' format: which family, which part
parts.py      LoRAs, ControlNets, VAEs, networks for enlargement
"""

"""ComfyUI's API for the graphs that its own templates make: text to image, image to image, inpainting, with LoRAs.

nodes.py      the nodes that are known, and `object_info`
graph.py      a graph as one of our requests; what it can't say is refused, with the node
uploads.py    pictures of `upload/image`; records.py: what was asked for under which `client_id`
answers.py    history, queue and errors in ComfyUI's form
views.py      the addresses, at the root and below /api; socket.py: `/ws`
"""

"""Interfaces that other programs speak already, on the same submission service, plans, limits and policy. One package
each: its addresses in urls.py, what its fields mean here in form.py (ComfyUI: graph.py).

    openai     /v1/images, /v1/models
    a1111      /sdapi/v1, /controlnet: AUTOMATIC1111's API
    comfyui    /prompt, /history, /ws ..., also below /api: ComfyUI's API
    horde      /api/v2: the AI Horde's API
    children.py   /generate, /status ...: the children's picture service

base.py: a request becomes one task, and its finished pictures are the answer, which holds no thread meanwhile.
refusals.py: Django's own answers at these addresses, in the form of each.
"""

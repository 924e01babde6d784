"""Interfaces that other programs speak already, on the same submission service, plans, limits and policy.

    /v1/images, /v1/models   OpenAI's Images API: openai_images.py, requests and answers in openai_form.py
    /sdapi/v1                AUTOMATIC1111's API: sdapi.py, requests and answers in sdapi_form.py
    /generate, /status ...   the children's picture service: children.py

The first two answer when the pictures are there; base.py says how that holds no thread.
"""

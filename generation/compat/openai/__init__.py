"""OpenAI's Images API at /v1: form.py has what its fields mean here, views.py the addresses, streaming.py `stream`."""

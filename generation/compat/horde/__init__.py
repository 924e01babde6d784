"""The AI Horde's API at /api/v2: form.py has what its fields mean here and the form of its answers, jobs.py the ids
that its clients follow a request by, views.py the addresses.
"""

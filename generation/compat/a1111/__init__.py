"""AUTOMATIC1111's API at /sdapi/v1, and the lists of its ControlNet extension at /controlnet.

request.py     a request of txt2img or img2img as one of ours, what of it is refused, and what is only noted
form.py        its fields and the form of the answer; controlnet.py, hires.py: those of a unit, of `enable_hr`
views.py       txt2img, img2img; job.py: progress, interrupt; lists.py: options, models, samplers and other lists
extras.py      pictures that are only enlarged
png_info.py    what a picture's file says of how it was made
"""

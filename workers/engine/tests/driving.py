"""Driving an engine in tests: making requests, running to the end, comparing with the stock pipelines."""

import itertools
import time
from dataclasses import fields

import numpy as np
import torch

from generation.catalogue.parameters import Parameters
from workers.engine import Cancelled, Failed, Finished, Progress, SampleRequest
from workers.engine.requests import SampleId

_numbers = itertools.count()


_PARAMETERS = {field.name for field in fields(Parameters)} - {"loras"}
_KEYS = {"controlnet_img2img": {"image_key": "i"}, "controlnet_inpaint": {"image_key": "i", "mask_key": "m"}}


def sample(kind="text2img", **changes):
    """A small request; every field of it and of its parameters may be changed. `kind` as the pipelines call it."""
    number = next(_numbers)
    asked = {
        "text": "a red circle on a white background", "negative_text": "", "width": 64, "height": 64, "steps": 3,
        "cfg_scale": 4.0, "sampler": "euler", "seed": 7,
    }  # fmt: skip
    asked |= {"kind": "controlnet", **_KEYS[kind]} if kind in _KEYS else {"kind": kind}
    asked |= {name: changes.pop(name) for name in list(changes) if name in _PARAMETERS}
    own = {"sample_id": SampleId(f"task{number}", 0), "priority": 2, "arrived": float(number), "model": "mini@1"}
    return SampleRequest(**{**own, "parameters": Parameters(**asked), **changes})


class Run:
    """What came out of an engine: events in order, and by sample the picture or the error."""

    def __init__(self):
        self.events = []
        self.images = {}
        self.errors = {}
        self.cancelled = set()

    def take(self, events):
        self.events += events
        for event in events:
            if isinstance(event, Finished):
                self.images[event.sample_id] = event.image
            elif isinstance(event, Failed):
                self.errors[event.sample_id] = event.error
            elif isinstance(event, Cancelled):
                self.cancelled.add(event.sample_id)

    def progress(self, sample_id):
        steps = [event for event in self.events if isinstance(event, Progress) and event.sample_id == sample_id]
        return [(event.step, event.steps) for event in steps]


def run_to_end(engine, requests=(), seconds=120):
    for request in requests:
        engine.admit(request)
    run = Run()
    deadline = time.monotonic() + seconds
    while not engine.idle:
        events = engine.step()
        run.take(events)
        if not events:
            time.sleep(0.002)  # a model is loading or a remote one computes
        assert time.monotonic() < deadline, f"still running after {seconds} s: {engine.running()}"
    return run


def worst(image, reference):
    """Largest difference of two pictures in 0..1."""
    assert image.shape == reference.shape
    return float(np.abs(image.astype(np.float64) - reference.astype(np.float64)).max())


def as_array(picture):
    """A stock pipeline's [1, 3, H, W] tensor as [H, W, 3] float."""
    return picture[0].permute(1, 2, 0).to("cpu", torch.float64).numpy()

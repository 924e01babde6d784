"""A model is tried by a task of its own: a worker loads it and makes one picture, before a customer asks for it."""

import io
from typing import Final

from PIL import Image as Pillow
from PIL import ImageDraw

from generation.accounts.models import User
from generation.catalogue.kinds import KINDS
from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import Parameters, new_seed
from generation.tasks.inputs import InputPicture
from generation.tasks.models import Task
from generation.tasks.submit import Submission, submit

TEXT: Final = "a red circle on a white background"
_PRIORITY: Final = 1  # an operator waits


def try_model(model: ImageModel, user: User) -> Task:
    """The task, outside of all quotas; the model's row says afterwards whether it was loaded. Raises Busy."""
    kind = KINDS[model.kinds[0]]
    size = (model.default_width, model.default_height)
    needed = [picture.role for picture in kind.pictures if picture.required]
    parameters = Parameters(
        kind=kind.task_kind, text=TEXT, negative_text="", width=size[0], height=size[1],
        steps=min(model.default_steps, model.max_steps), cfg_scale=model.default_cfg_scale,
        sampler=model.default_sampler, seed=new_seed(), **kind.own_parameters({}, model),
    )  # fmt: skip
    inputs = tuple(InputPicture(role, _picture(role, size)) for role in needed)
    return submit([Submission(parameters, model, TEXT, _PRIORITY, inputs=inputs)], user=user).tasks[0]


def _picture(role: str, size: tuple[int, int]) -> bytes:
    """A circle on white; of a mask, the middle."""
    picture = Pillow.new("L" if role == "mask" else "RGB", size, "black" if role == "mask" else "white")
    box = (size[0] // 4, size[1] // 4, size[0] * 3 // 4, size[1] * 3 // 4)
    ImageDraw.Draw(picture).ellipse(box, fill="white" if role == "mask" else "red")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()

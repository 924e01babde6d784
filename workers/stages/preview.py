"""Previews that the web process asks for (generation/tasks/previews/exchange.py): edges of a photo, watermarks.

Depth and poses are drawn by networks beside their models, on the GPU: the web process does not ask for them.
"""

import io

import numpy as np
from celery import shared_task
from PIL import Image

from generation.tasks.previews import exchange
from generation.tasks.previews.exchange import Answer, Asked
from postprocessing.errors import PostprocessingError
from postprocessing.recipe import Recipe
from postprocessing.watermark import apply_watermarks
from workers.engine.models import controls


@shared_task(name=exchange.MESSAGE, time_limit=30, soft_time_limit=20)
def preview(identifier: str) -> None:
    """Make it, unless it was made, or nobody waits any more."""
    asked = exchange.take(identifier)
    if asked is not None:
        exchange.reply(identifier, answer(asked))


def answer(asked: Asked) -> Answer:
    """The picture as it will be used."""
    with Image.open(io.BytesIO(asked.picture), formats=("PNG",)) as file:
        picture = np.asarray(file.convert("RGB"))
    try:
        made = _made(picture, asked)
    except PostprocessingError as error:
        return Answer(fault=str(error))
    written = io.BytesIO()
    Image.fromarray(made).save(written, "PNG", compress_level=1)
    return Answer(written.getvalue())


def _made(picture: np.ndarray, asked: Asked) -> np.ndarray:
    if "watermark" in asked.work:
        return apply_watermarks(picture, Recipe.from_json({"watermark": asked.work["watermark"]}).watermarks)
    control_type, ready = asked.work["control_type"], asked.work["ready"]
    if ready is None:
        ready = controls.looks_ready(control_type, picture)
    return picture if ready or control_type != "canny" else controls.edges(picture)

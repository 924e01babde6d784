"""Every built-in style, from the request to the stored picture: its words reach the engine, its tone the file."""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import pytest
from django.test import Client

from generation.accounts.models import User
from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel, Style
from generation.tasks.models import Image, Status, Task
from storage import raw
from storage.store import get_store
from workers.gpu.samples import samples_of
from workers.stages import postprocess, upload


@pytest.fixture
def submit(client_of: Callable[..., Client], owner: User, able_model: ImageModel) -> Callable[..., Task]:
    """A request through the API on a model that takes style words: its row."""
    return partial(_submit, client_of(owner))


def _submit(client: Client, style: str = "", **params: object) -> Task:
    asked = {"model": "able", "style": style, "negative_text": "frame", "resolution": "256x256", "format": "png"}
    body = {"text": "a red fox", "params": {**asked, **params}}
    answer = client.post("/api/v1/image/generate", body, content_type="application/json")
    assert answer.status_code == 202, answer.content
    return Task.objects.get(pk=Task.objects.latest("id").pk)


def finished(task: Task) -> np.ndarray:
    """The stored picture of the task, when the GPU has made a certain colourful one of it."""
    ramp = np.linspace(20, 235, 256).astype(np.uint8)
    checks = (np.indices((256, 256)).sum(axis=0) // 16 % 2 * 60).astype(np.uint8)  # edges, which sharpening changes
    picture = np.dstack([np.tile(ramp, (256, 1)), np.tile(ramp[:, None], (1, 256)), 90 + checks])
    Task.objects.filter(pk=task.pk).update(status=Status.GENERATED, attempt=1)
    raw.write_raw(task.id, 0, 1, cv2.imencode(".png", picture)[1].tobytes())
    for stage in (postprocess.postprocess, upload.upload):
        stage(str(task.id))
    data = get_store("images").read(Image.objects.get(task=task).key)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded.astype(np.int16)


def test_every_style_changes_prompt_negative_prompt_and_tone(submit: Callable[..., Task]) -> None:
    plain = finished(submit())
    styles = list(Style.objects.all())
    assert len(styles) >= 24
    prompts = set()
    for style in styles:
        task = submit(style.name)
        [sample] = samples_of(task, alone=False)
        before, _, after = style.prompt.partition("{text}")
        assert sample.parameters.text == f"{before}a red fox{after}", style.name
        assert sample.parameters.text != "a red fox", style.name
        assert sample.parameters.negative_text == f"frame, {style.negative_prompt}", style.name
        prompts.add(sample.parameters.text)
        assert np.abs(finished(task) - plain).max() >= 3, f"{style.name} has no visible tone"
    assert len(prompts) == len(styles)


def test_an_admins_change_of_a_style_changes_the_next_task_only(submit: Callable[..., Task]) -> None:
    before = submit("cartoon")
    Style.objects.filter(name="cartoon").update(prompt="{text} as a stamp", tone={"saturation": 0.5})
    snapshot.reload()
    after = submit("cartoon")
    prompts = [samples_of(task, alone=False)[0].parameters.text for task in (before, after)]
    assert prompts[1] == "a red fox as a stamp"
    assert prompts[0] != prompts[1]
    paler, as_it_was = (np.ptp(finished(task), axis=2).mean() for task in (after, before))
    assert paler < as_it_was * 0.7


def test_saturation_and_keywords_of_the_request(submit: Callable[..., Task]) -> None:
    [sample] = samples_of(submit(style_keywords=["misty", "at dawn"]), alone=False)
    assert sample.parameters.text == "a red fox, misty, at dawn"
    spread = [np.ptp(finished(submit(saturation=value)), axis=2).mean() for value in (0.5, 1.0, 2.0)]
    assert spread[0] < spread[1] < spread[2]

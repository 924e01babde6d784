"""What a file says of how it was made, against AUTOMATIC1111's own form and what `/sdapi` answers."""

import io
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image as Pillow

from generation.catalogue.parameters import LoraChoice
from generation.compat.a1111 import form as sdapi_form
from generation.tasks.models import Image, Task
from postprocessing.recipe import Recipe
from workers.stages.encode import process_pictures

MakeTask = Callable[..., Task]
LORAS = (LoraChoice("outline@1", "abcdef1234567890" * 4, "x", 1.0), LoraChoice("ink@3", "1" * 64, "y", 0.5))


def parameters_in(data: bytes) -> str:
    with Pillow.open(io.BytesIO(data)) as file:
        return file.info["parameters"]


def test_files_and_infotexts_say_the_same_as_a1111_does(make_task: MakeTask) -> None:
    task = make_task()
    task.parameters = replace(
        task.parameters, sampler="dpm++_karras", loras=LORAS, kind="img2img", image_key="inputs/x.png", strength=0.4,
        negative_text="blur", num_images=2,
    )  # fmt: skip
    task.save()
    task = Task.objects.get(pk=task.pk)
    pictures = {number: np.zeros((256, 256, 3), np.uint8) for number in range(2)}
    files = process_pictures([(task, pictures)], Recipe.from_json({"format": "png"}))
    written = [parameters_in(file.original.data) for file in files]
    assert written == [
        "red circle <lora:outline:1> <lora:ink:0.5>\n"
        "Negative prompt: blur\n"
        f"Steps: 4, Sampler: DPM++ 2M Karras, CFG scale: 4, Seed: {seed}, Size: 256x256, Model: {task.model_key}, "
        'Denoising strength: 0.4, Lora hashes: "outline: abcdef123456, ink: 111111111111", Version: ImageGenX'
        for seed in (7, 8)
    ]
    images = [Image(task=task, index=number, seed=7 + number) for number in range(2)]
    info = sdapi_form._info(task, images)
    assert info["infotexts"] == written
    assert info["sampler_name"] == "DPM++ 2M Karras"
    assert info["prompt"] in written[0]
    assert json.dumps(info)


def test_without_any_of_it_nothing_is_made_up(make_task: MakeTask) -> None:
    (file,) = process_pictures([(make_task(), {0: np.zeros((8, 8, 3), np.uint8)})], Recipe.from_json({"format": "png"}))
    written = parameters_in(file.original.data)
    assert not {"Denoising", "lora", "Lora", "ControlNet", "Negative"} & set(written.replace(":", " ").split())
    assert "Sampler: Euler," in written

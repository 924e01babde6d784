"""The steps of a picture: basic, super-resolution, tone, white background, watermark, format."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import repeat

from postprocessing.arrays import Picture, check_picture
from postprocessing.background import whiten_background
from postprocessing.basic import apply_basic
from postprocessing.formats import Encoded, encode, shrink
from postprocessing.metadata import Notes
from postprocessing.provenance import SignerConfig
from postprocessing.quality import THUMBNAIL_QUALITY
from postprocessing.recipe import Output, Recipe
from postprocessing.superres import Progress, SuperResConfig, pictures_per_call, upscale
from postprocessing.tone import apply_tone
from postprocessing.watermark import apply_watermarks

_ENCODERS = min(4, os.cpu_count() or 1)  # threads; Pillow releases Python's lock while it encodes
StepTimer = Callable[[str], AbstractContextManager[None]]
"""Called with the name of each step, round the step: for traces."""
_THUMBNAIL = Output(format="webp", quality=THUMBNAIL_QUALITY, metadata="minimal", icc=False)


def untimed(_: str) -> AbstractContextManager[None]:
    """The StepTimer that measures nothing."""
    return nullcontext()


@dataclass(frozen=True)
class ProcessedPicture:
    """The file and its thumbnail, both made after the last step (a watermark is in both)."""

    original: Encoded
    thumbnail: Encoded


def process(
    images: Sequence[Picture],
    recipe: Recipe,
    notes: Sequence[Notes] = (),
    config: SuperResConfig = SuperResConfig(),  # noqa: B008  # frozen
    progress: Progress | None = None,
    *,
    signer: SignerConfig | None = None,
) -> list[Encoded]:
    """`process_each` without thumbnails, as a list."""
    done = process_each(images, recipe, notes, config, progress, signer=signer, thumbnails=False)
    return [picture.original for picture in done]


def process_each(
    images: Sequence[Picture],
    recipe: Recipe,
    notes: Sequence[Notes] = (),
    config: SuperResConfig = SuperResConfig(),  # noqa: B008  # frozen
    progress: Progress | None = None,
    *,
    signer: SignerConfig | None = None,
    thumbnails: bool = True,
    timer: StepTimer = untimed,
) -> Iterator[ProcessedPicture]:
    """Process pictures that share a recipe, in their order. Each can be stored before the next group is processed.

    `images`: uint8 RGB arrays of any sizes (postprocessing/arrays.py). `notes`: one for each image, or none at all.
    `progress`: called with the completed part of the enlargement, 0 to 1. `signer`: for recipes with provenance. For
    the first of two versions pass `recipe.first_version()`. Raises PostprocessingError; ValueError or TypeError for a
    wrong array.

    Neighbours of one size form a group: they share the calls of the super-resolution network, and their files are
    encoded in parallel. A group has as many pictures as one call takes, so that memory does not grow with their number.
    """
    if notes and len(notes) != len(images):
        raise ValueError(f"{len(images)} pictures have {len(notes)} notes.")
    pictures = [check_picture(image, f"picture {index}") for index, image in enumerate(images)]
    with ThreadPoolExecutor(_ENCODERS) as threads:
        for group in _groups(pictures, recipe, config):
            files = []
            rendered = render(pictures[group], recipe, config, _part_of(progress, group, len(pictures)), timer)
            for picture, note in zip(rendered, notes[group] or repeat(None, len(rendered)), strict=True):
                original = threads.submit(encode, picture, recipe.output, note, signer=signer)
                files.append((original, threads.submit(thumbnail, picture) if thumbnails else original))
            for original, small in files:
                with timer("format"):
                    done = ProcessedPicture(original.result(), small.result())
                yield done


def _groups(pictures: Sequence[Picture], recipe: Recipe, config: SuperResConfig) -> Iterator[slice]:
    """Slices of neighbours of one size: as many as one call of the network takes, else one per encoder thread."""
    start = 0
    while start < len(pictures):
        shape = pictures[start].shape
        most = pictures_per_call(shape, config) if recipe.upscale else _ENCODERS
        end = start + 1
        while end < min(start + most, len(pictures)) and pictures[end].shape == shape:
            end += 1
        yield slice(start, end)
        start = end


def _part_of(progress: Progress | None, group: slice, count: int) -> Progress | None:
    """Scales the progress of one group to all `count` pictures."""
    if progress is None:
        return None
    return lambda done: progress((group.start + done * (group.stop - group.start)) / count)


def render(
    pictures: Sequence[Picture],
    recipe: Recipe,
    config: SuperResConfig,
    progress: Progress | None = None,
    timer: StepTimer = untimed,
) -> list[Picture]:
    """Every step but the format."""
    with timer("basic"):
        done = [apply_basic(picture, recipe.basic) for picture in pictures]
    if recipe.upscale:
        with timer("superres"):
            done = upscale(done, recipe.upscale.scale, config, progress)
    with timer("tone"):
        done = [apply_tone(picture, recipe.tone) for picture in done]
    if recipe.white_background:
        with timer("background"):
            done = [whiten_background(picture) for picture in done]
    with timer("watermark"):
        return [apply_watermarks(picture, recipe.watermarks) for picture in done]


def thumbnail(image: Picture, side: int = 256) -> Encoded:
    """A WebP with its longer side at most `side` pixels."""
    return encode(shrink(check_picture(image), side), _THUMBNAIL, fast=True)

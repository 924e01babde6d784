"""The way of a picture: basic, super-resolution, tone, white background, watermark, format."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from postprocessing.arrays import Picture, check_picture
from postprocessing.background import whiten_background
from postprocessing.basic import apply_basic
from postprocessing.formats import Encoded, encode, shrink
from postprocessing.metadata import Notes
from postprocessing.provenance import SignerConfig
from postprocessing.recipe import Output, Recipe
from postprocessing.superres import Progress, SuperResConfig, pictures_in_a_call, upscale
from postprocessing.thumbnails import QUALITY
from postprocessing.tone import apply_tone
from postprocessing.watermark import apply_watermarks

_ENCODERS = min(4, os.cpu_count() or 1)  # threads; Pillow encodes outside Python's lock
_THUMBNAIL = Output(format="webp", quality=QUALITY, metadata="minimal", icc=False)


@dataclass(frozen=True)
class Finished:
    """The file and its thumbnail, both made from the picture with every step done (a watermark is in both)."""

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
    """Finish pictures that share one recipe; the answer has their order. This does the whole recipe: for the first
    of two versions call it with `recipe.first_version()`.

    `images`: uint8 RGB arrays of any sizes (postprocessing/arrays.py). `notes`: one for each image, or none at all.
    `progress`: called with the done part of the enlargement. `signer`: for recipes that ask for provenance. Raises
    PostprocessingError; ValueError or TypeError for a wrong array.
    """
    return [
        finished.original
        for finished in finish(images, recipe, notes, config, progress, signer=signer, thumbnails=False)
    ]


def finish(
    images: Sequence[Picture],
    recipe: Recipe,
    notes: Sequence[Notes] = (),
    config: SuperResConfig = SuperResConfig(),  # noqa: B008  # frozen
    progress: Progress | None = None,
    *,
    signer: SignerConfig | None = None,
    thumbnails: bool = True,
) -> Iterator[Finished]:
    """As `process`, with thumbnails, and one after another: each can be kept before the next ones are worked on.

    Pictures of one size are worked on in groups, which share the calls of the super-resolution network and whose
    files are encoded side by side. A group is as many as one call takes: memory does not grow with the number of
    pictures, and none waits for more than its group.
    """
    if notes and len(notes) != len(images):
        raise ValueError(f"{len(images)} pictures have {len(notes)} notes.")
    pictures = [check_picture(image, f"picture {index}") for index, image in enumerate(images)]
    with ThreadPoolExecutor(_ENCODERS) as threads:
        for group in _groups(pictures, recipe, config):
            done = render(pictures[group], recipe, config, _part_of(progress, group, len(pictures)))
            files = [
                (
                    threads.submit(
                        encode, picture, recipe.output, notes[group][index] if notes else None, signer=signer
                    ),
                    threads.submit(thumbnail, picture) if thumbnails else None,
                )
                for index, picture in enumerate(done)
            ]
            for original, small in files:
                yield Finished(original.result(), small.result() if small else original.result())


def _groups(pictures: Sequence[Picture], recipe: Recipe, config: SuperResConfig) -> Iterator[slice]:
    """Neighbours of one size: as many as a call of the network takes, or as there are encoders."""
    start = 0
    while start < len(pictures):
        shape = pictures[start].shape
        most = pictures_in_a_call(shape, config) if recipe.upscale else _ENCODERS
        end = start + 1
        while end < min(start + most, len(pictures)) and pictures[end].shape == shape:
            end += 1
        yield slice(start, end)
        start = end


def _part_of(progress: Progress | None, group: slice, count: int) -> Progress | None:
    """The progress of one group as progress of all `count` pictures."""
    if progress is None:
        return None
    return lambda done: progress((group.start + done * (group.stop - group.start)) / count)


def render(
    pictures: Sequence[Picture], recipe: Recipe, config: SuperResConfig, progress: Progress | None = None
) -> list[Picture]:
    """Every step but the format."""
    done = [apply_basic(picture, recipe.basic) for picture in pictures]
    if recipe.upscale:
        done = upscale(done, recipe.upscale.scale, config, progress)
    done = [apply_tone(picture, recipe.tone) for picture in done]
    if recipe.white_background:
        done = [whiten_background(picture) for picture in done]
    return [apply_watermarks(picture, recipe.watermarks) for picture in done]


def thumbnail(image: Picture, side: int = 256) -> Encoded:
    """A WebP whose longer side is at most `side` pixels."""
    return encode(shrink(check_picture(image), side), _THUMBNAIL, hurry=True)

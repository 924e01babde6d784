"""The way of a picture: basic, super-resolution, tone, white background, watermark, format."""

from collections.abc import Sequence
from dataclasses import dataclass

from postprocessing.arrays import Picture, check_picture
from postprocessing.background import whiten_background
from postprocessing.basic import apply_basic
from postprocessing.formats import Encoded, encode, shrink
from postprocessing.metadata import Notes
from postprocessing.recipe import Output, Recipe
from postprocessing.superres import Progress, SuperResConfig, upscale
from postprocessing.tone import apply_tone
from postprocessing.watermark import apply_watermarks

_THUMBNAIL = Output(format="webp", quality=80, metadata="minimal", icc=False)


def process(
    images: Sequence[Picture],
    recipe: Recipe,
    notes: Sequence[Notes] = (),
    config: SuperResConfig = SuperResConfig(),  # noqa: B008  # frozen
    progress: Progress | None = None,
) -> list[Encoded]:
    """Finish pictures that share one recipe; the answer has their order. This does the whole recipe: for the first
    of two versions call it with `recipe.first_version()`.

    `images`: uint8 RGB arrays of any sizes (postprocessing/arrays.py). `notes`: one for each image, or none at all.
    `progress`: called with the done part of the enlargement. Raises PostprocessingError; ValueError or TypeError for
    a wrong array.
    """
    pictures = _rendered(images, recipe, notes, config, progress)
    return [encode(picture, recipe.output, notes[index] if notes else None) for index, picture in enumerate(pictures)]


@dataclass(frozen=True)
class Finished:
    """The file and its thumbnail, both made from the picture with every step done (a watermark is in both)."""

    original: Encoded
    thumbnail: Encoded


def finish(
    images: Sequence[Picture],
    recipe: Recipe,
    notes: Sequence[Notes] = (),
    config: SuperResConfig = SuperResConfig(),  # noqa: B008  # frozen
    progress: Progress | None = None,
) -> list[Finished]:
    """As `process`, with thumbnails."""
    pictures = _rendered(images, recipe, notes, config, progress)
    return [
        Finished(encode(picture, recipe.output, notes[index] if notes else None), thumbnail(picture))
        for index, picture in enumerate(pictures)
    ]


def _rendered(
    images: Sequence[Picture],
    recipe: Recipe,
    notes: Sequence[Notes],
    config: SuperResConfig,
    progress: Progress | None,
) -> list[Picture]:
    if notes and len(notes) != len(images):
        raise ValueError(f"{len(images)} pictures have {len(notes)} notes.")
    pictures = [check_picture(image, f"picture {index}") for index, image in enumerate(images)]
    return render(pictures, recipe, config, progress)


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
    return encode(shrink(check_picture(image), side), _THUMBNAIL)

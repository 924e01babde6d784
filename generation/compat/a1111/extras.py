"""`extra-single-image` and `extra-batch-images`: pictures that are enlarged, without being drawn anew.

    field                                            here
    image | imageList[].data                         image | images
    upscaler_1, upscaler_2                           Super-resolution; None: the pictures come back as they are
    resize_mode 0: upscaling_resize                  params.scale, 2 or 4; 1 or less: as they are
    resize_mode 1: upscaling_resize_w, _h            the same, where a picture becomes that large by 2 or 4
    gfpgan_visibility, codeformer_visibility         no effect, which `html_info` says
    extras_upscaler_2_visibility, upscale_first, ... no effect: there is one upscaler

The answer is a PNG.
"""

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final

from django.conf import settings
from rest_framework.response import Response

from generation.api.authentication import KeyRequest
from generation.api.kind_forms import MOST_PICTURES
from generation.catalogue.kinds import KINDS, SCALES
from generation.compat.a1111 import form, hires
from generation.compat.a1111.views import SdapiView, object_of
from generation.compat.base import in_base64
from generation.tasks.models import Image, Task
from imagegenx_site.errors import Fault, InvalidRequest
from postprocessing.client_pictures import decoded_text, opened

_NO_EFFECT: Final = ("gfpgan_visibility", "codeformer_visibility")
_UNCHANGED: Final = "The pictures are as they were sent: "
_TURNED: Final = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_ORIENTATION: Final = 0x0112


class ExtraSingleImageView(SdapiView):
    """One picture."""

    fields: ClassVar = {"params.scale": "upscaling_resize"}

    def post(self, request: KeyRequest) -> Response:
        """The picture, enlarged."""
        asked = object_of(request)
        image = _picture(asked.get("image"), "image")
        scale, notes = wanted(asked, [image], ("image",))
        if scale == 1:
            return Response({"html_info": notes, "image": _as_sent(image, "image")})
        body = _body(scale) | {"image": image}
        return self.generate(request, body, KINDS["upscale"], partial(_single, notes))


class ExtraBatchImagesView(SdapiView):
    """Several."""

    fields: ClassVar = {"params.scale": "upscaling_resize", "images": "imageList"}

    def post(self, request: KeyRequest) -> Response:
        """The pictures in their order, enlarged."""
        asked = object_of(request)
        listed = asked.get("imageList")
        if not isinstance(listed, list) or not listed:
            raise InvalidRequest([Fault("imageList", "required", 'Send a list: [{"data": base64, "name": "a.png"}].')])
        if len(listed) > MOST_PICTURES:
            raise InvalidRequest([Fault("imageList", "too_many", f"At most {MOST_PICTURES} pictures at once.")])
        names = [f"imageList[{number}].data" for number in range(len(listed))]
        given = [one.get("data") if isinstance(one, Mapping) else None for one in listed]
        images = [_picture(one, name) for one, name in zip(given, names, strict=True)]
        scale, notes = wanted(asked, images, names)
        if scale == 1:
            same = [_as_sent(image, name) for image, name in zip(images, names, strict=True)]
            return Response({"html_info": notes, "images": same})
        body = _body(scale) | {"images": images}
        return self.generate_each(request, body, KINDS["upscale"], partial(_several, notes))


def wanted(asked: Mapping[str, Any], images: Sequence[str], names: Sequence[str]) -> tuple[int, str]:
    """By how much the pictures are enlarged (1: not at all), and what `html_info` says. Raises InvalidRequest."""
    notes = [f"{name}: there is no face restoration." for name in _NO_EFFECT if form.number(asked, name, 0) > 0]
    if not any([_is_named(asked, "upscaler_1"), _is_named(asked, "upscaler_2")]):
        return 1, " ".join([*notes, f"{_UNCHANGED}upscaler_1 is None."])
    if form.whole(asked, "resize_mode", 0) == 1:
        scales = [_scale_to(asked, image, name) for image, name in zip(images, names, strict=True)]
        if len(set(scales)) > 1:
            message = "The pictures become that large by different factors. Send those of one size together."
            raise InvalidRequest([Fault("upscaling_resize_w", "not_allowed", message)])
        scale: float = scales[0]
    else:
        scale = form.number(asked, "upscaling_resize", 2.0)
    if scale <= 1:
        return 1, " ".join([*notes, f"{_UNCHANGED}upscaling_resize is {scale:g}."])
    if scale not in SCALES:
        message = f"Pictures are enlarged 2 or 4 times here; {scale:g} times is not possible."
        raise InvalidRequest([Fault("upscaling_resize", "not_allowed", message)])
    return int(scale), " ".join([*notes, f"Enlarged {scale:g} times by super-resolution."])


def _is_named(asked: Mapping[str, Any], field: str) -> bool:
    """Whether there is an upscaler in the field. Raises InvalidRequest for one that is not here."""
    name = form.text(asked, field)
    if name not in ("", "None", hires.UPSCALER):
        message = f"There is no upscaler {name[:60]}. Known: {hires.UPSCALER}, and None."
        raise InvalidRequest([Fault(field, "not_allowed", message)])
    return name == hires.UPSCALER


def _scale_to(asked: Mapping[str, Any], image: str, name: str) -> float:
    """The factor by which a picture gets the size that is asked for. Raises InvalidRequest for an uneven one."""
    width, height = _size_of(image, name)
    wide, high = (form.whole(asked, f"upscaling_resize_{side}", 512) for side in ("w", "h"))
    if wide * height != high * width:
        message = f"A picture of {width}x{height} does not become {wide}x{high} by one factor, and nothing is cut off."
        raise InvalidRequest([Fault("upscaling_resize_w", "not_allowed", message)])
    return wide / width


def _size_of(image: str, name: str) -> tuple[int, int]:
    """By the file's head. Raises InvalidRequest."""
    try:
        data = decoded_text(image)
        if len(data) > settings.MAX_INPUT_BYTES:
            raise ValueError("too large")
        with opened(data) as picture:
            width, height = picture.size
            turned = picture.getexif().get(_ORIENTATION) in _TURNED
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise InvalidRequest([Fault(name, "not_a_picture", "Send a PNG, JPEG or WebP in base64.")]) from error
    return (height, width) if turned else (width, height)


def _picture(given: Any, name: str) -> str:
    if not isinstance(given, str) or not given:
        raise InvalidRequest([Fault(name, "required", "A picture in base64.")])
    return given


def _as_sent(image: str, name: str) -> str:
    """A picture that is left as it is, without what may stand before its base64. Raises InvalidRequest."""
    _size_of(image, name)
    return base64.b64encode(decoded_text(image)).decode()


def _body(scale: int) -> dict[str, Any]:
    return {"params": {"scale": scale, "format": "png"}}


def _single(notes: str, task: Task, images: Sequence[Image]) -> dict[str, Any]:
    return {"html_info": notes, "image": in_base64(images[0])}


def _several(notes: str, made: Sequence[tuple[Task, Sequence[Image]]]) -> dict[str, Any]:
    return {"html_info": notes, "images": [in_base64(image) for _, images in made for image in images]}

"""`txt2img` and `img2img` of AUTOMATIC1111's API, and what its views share. What there is one of in A1111 (the running
job, the chosen model) each key has for itself here.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Final

from rest_framework.response import Response

from generation.api.authentication import KeyRequest
from generation.compat.a1111 import choice, form
from generation.compat.a1111.request import wanted
from generation.compat.base import Answer, CompatView, catalogue_of
from generation.tasks.models import Image, Task
from imagegenx_site.errors import ApiError, InvalidRequest

_FIELDS: Final = {
    "text": "prompt",
    "image": "init_images[0]",
    "images": "init_images",
    "control_image": "alwayson_scripts.controlnet.args[0].image",
    "params.resolution": "width, height",
    "params.style": "styles",
}
_WORDS: Final = {404: "Not Found", 405: "Method Not Allowed"}  # its server's own words, and nothing beside them


class SdapiView(CompatView):
    """Errors as A1111's server has them; keys also as HTTP Basic, the only way that its programs know."""

    challenge: ClassVar[str] = 'Basic realm="ImageGenX"'
    answers_partly = True
    fields: ClassVar[dict[str, str]] = _FIELDS  # of our form -> of theirs

    def failure(self, error: ApiError) -> dict[str, Any]:
        if error.http_status in _WORDS:
            return {"detail": _WORDS[error.http_status]}
        detail = error.message
        if isinstance(error, InvalidRequest):
            detail = " ".join(fault.sentence(self._names(fault.field)) for fault in error.faults)
        return {"error": error.code, "detail": detail, "body": "", "errors": detail}

    def _names(self, field: str) -> dict[str, str]:
        """Theirs for our field; one of a list keeps its number."""
        name, bracket, rest = field.partition("[")
        numbered = {field: f"{self.fields[name]}{bracket}{rest}"} if bracket and name in self.fields else {}
        return {**self.fields, **numbered}


class PicturesView(SdapiView):
    """What makes pictures answers when they are finished."""

    from_pictures: ClassVar[bool] = False

    def post(self, request: KeyRequest) -> Response:
        """The pictures, or as many as there are when the caller interrupts."""
        asked = object_of(request)
        want = wanted(asked, catalogue_of(request), choice.of_key(request), from_pictures=self.from_pictures)
        if "images" in want.body:
            return self.generate_each(request, want.body, want.kind, partial(form.answer_each, asked, want.notes))
        return self.generate(request, want.body, want.kind, partial(_answer, asked, want.notes))

    def canceled(self, task: Task, answer: Answer) -> Any:
        """A1111 answers an interrupted request with what it has: here nothing, and `info` says so."""
        return answer(task, ())


class Txt2ImgView(PicturesView):
    """A text to pictures."""


class Img2ImgView(PicturesView):
    """A picture, and a mask or none, to pictures."""

    from_pictures = True


def _answer(asked: dict[str, Any], notes: Sequence[str], task: Task, images: Sequence[Image]) -> dict[str, Any]:
    return form.answer(task, images, asked, notes)


def object_of(request: KeyRequest) -> dict[str, Any]:
    """The body; empty for one that is no object, as A1111 takes it."""
    return request.data if isinstance(request.data, dict) else {}

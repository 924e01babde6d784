"""Remote models, over the OpenAI-style Images API: POST /images/generations and /images/edits.

`source` is the address up to and without "/images/...". Options: `model` (their name of it), `api_key_env` (name of the
environment variable that holds the key), `sizes` (what they offer, "1024x1024" ...), `timeout_s` (for a whole answer),
`concurrency`, `response_format` (sent as it is; without it "b64_json" is sent for models named dall-e-..., which else
answer with an address, and nothing for others: gpt-image-... refuses the field and always answers in base64).
While they compute, the engine goes on with its own samples. A server that only drips is given up after
`timeout_s` too, and no more than LARGEST_ANSWER of an answer is read.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import httpx
import numpy as np
import torch
from PIL import Image

from postprocessing.client_pictures import read_picture
from workers.engine.errors import InvalidSample, ModelUnavailable, RemoteModelError
from workers.engine.interception import await_future
from workers.engine.interface import Generated, OnStep
from workers.engine.requests import SampleRequest
from workers.engine.spec import ModelSpec

LARGEST_ANSWER = 64 << 20  # bytes; no picture we ask for is larger
MAX_PIXELS = 40_000_000  # of a picture in an answer


class RemoteModel:
    """ModelInterface for text2img, and for img2img and inpaint by their edits."""

    precisions: ClassVar[Sequence[str]] = ()

    def __init__(self, spec: ModelSpec, _device: torch.device) -> None:
        self.spec = spec
        self._options = spec.options
        self._headers: dict[str, str] = {}
        self._callers: ThreadPoolExecutor | None = None

    def load(self) -> None:
        """Read the key from the environment. Raises ModelUnavailable if it is not there."""
        variable = self._options.get("api_key_env", "")
        key = os.environ.get(variable, "") if variable else ""
        if variable and not key:
            raise ModelUnavailable(f"model {self.spec.key} needs its key in the environment variable {variable}")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._callers = ThreadPoolExecutor(int(self._options.get("concurrency", 4)), thread_name_prefix="remote-model")

    def infer(self, request: SampleRequest, on_step: OnStep) -> Generated:
        """Ask for one picture. Raises RemoteModelError, InvalidSample."""
        if request.kind not in ("text2img", "img2img", "inpaint"):
            raise InvalidSample(f"model {self.spec.name} does text2img, img2img and inpaint, not {request.kind}")
        assert self._callers is not None, "infer follows load"
        warnings: list[str] = []
        size = self._size(request)
        if size != (request.width, request.height):
            warnings.append(f"model {self.spec.name} made {size[0]}x{size[1]}; the picture was resized")
        if request.parameters.negative_text:
            warnings.append(f"model {self.spec.name} takes no negative prompt; it was not used")
        picture = await_future(self._callers.submit(self._ask, request, size))
        if picture.size != (request.width, request.height):
            picture = picture.resize((request.width, request.height), Image.Resampling.LANCZOS)
        on_step(1, 1, None)
        return Generated(np.asarray(picture, np.float32) / 255, tuple(warnings))

    def release(self) -> None:
        """Calls under way are given up."""
        if self._callers is not None:
            self._callers.shutdown(wait=False, cancel_futures=True)

    def memory_bytes(self) -> int:
        """Nothing of it is here."""
        return 0

    def _size(self, request: SampleRequest) -> tuple[int, int]:
        """The offered size nearest in shape, then in area; any size if the options name none."""
        offered = [tuple(map(int, size.split("x"))) for size in self._options.get("sizes", ())]
        size = (request.width, request.height)
        if not offered or size in offered:
            return size
        shape, area = size[0] / size[1], size[0] * size[1]
        width, height = min(offered, key=lambda one: (abs(one[0] / one[1] - shape), abs(one[0] * one[1] - area)))
        return width, height

    def _ask(self, request: SampleRequest, size: tuple[int, int]) -> Image.Image:
        """One HTTP request; runs in a thread of its own."""
        fields: dict[str, Any] = {"prompt": request.parameters.text, "n": 1, "size": f"{size[0]}x{size[1]}"}
        fields["model"] = self._options.get("model", self.spec.name)
        usual = "b64_json" if fields["model"].startswith("dall-e") else ""
        if answer_form := self._options.get("response_format", usual):
            fields["response_format"] = answer_form
        try:
            if request.kind == "text2img":
                status, body = asyncio.run(self._answer("images/generations", json=fields))
            else:
                form = {name: str(value) for name, value in fields.items()}
                files = _files(request, size)
                status, body = asyncio.run(self._answer("images/edits", data=form, files=files))
        except (httpx.HTTPError, TimeoutError) as error:
            raise RemoteModelError(f"model {self.spec.name} did not answer: {error!r}", retryable=True) from error
        return self._picture(status, body)

    async def _answer(self, path: str, **content: Any) -> tuple[int, bytes]:
        """Status and body, the body up to a byte more than LARGEST_ANSWER. Raises TimeoutError when all of it has not
        come within `timeout_s`.
        """
        body = bytearray()
        async with (
            asyncio.timeout(float(self._options.get("timeout_s", 120))),
            httpx.AsyncClient(base_url=self.spec.source, headers=self._headers, timeout=None) as client,
            client.stream("POST", path, **content) as answer,
        ):
            async for piece in answer.aiter_bytes():
                body += piece[: LARGEST_ANSWER + 1 - len(body)]
                if len(body) > LARGEST_ANSWER:
                    break
        return answer.status_code, bytes(body)

    def _picture(self, status: int, body: bytes) -> Image.Image:
        if status >= 400:
            retryable = status in (408, 409, 429) or status >= 500
            raise RemoteModelError(f"model {self.spec.name}: {status} {_reason(body)}".rstrip(), retryable=retryable)
        try:
            if len(body) > LARGEST_ANSWER:
                raise ValueError("the answer is too large")
            made = json.loads(body)["data"][0]
            if made.get("url") and not made.get("b64_json"):
                message = f"model {self.spec.name} answered with an address; set its option response_format to b64_json"
                raise RemoteModelError(message, retryable=False)
            return read_picture(base64.b64decode(made["b64_json"]), max_pixels=MAX_PIXELS).picture.convert("RGB")
        except (
            ValueError,
            KeyError,
            IndexError,
            TypeError,
            AttributeError,
            OSError,
            RecursionError,
        ) as error:
            message = f"model {self.spec.name} answered something else than a picture: {error!r}"
            raise RemoteModelError(message, retryable=True) from error


def _reason(body: bytes) -> str:
    """Their message, if they gave one in the usual place."""
    try:
        return str(json.loads(body)["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _files(request: SampleRequest, size: tuple[int, int]) -> dict[str, tuple[str, bytes, str]]:
    """Picture and mask as PNG. Their masks are transparent where the picture is repainted."""
    if request.image is None:
        raise InvalidSample(f"a task of kind {request.kind} needs an input picture")
    files = {"image": ("image.png", _png(Image.fromarray(request.image).resize(size)), "image/png")}
    if request.kind == "inpaint":
        if request.mask is None:
            raise InvalidSample("a task of kind inpaint needs a mask")
        kept = Image.fromarray(255 - request.mask).resize(size)
        canvas = Image.new("RGBA", size)
        canvas.putalpha(kept)
        files["mask"] = ("mask.png", _png(canvas), "image/png")
    return files


def _png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()

"""Remote models, over the OpenAI-style Images API: POST /images/generations and /images/edits.

`source` is the address up to and without "/images/...". Options: `model` (their name of it), `api_key_env` (name of the
environment variable that holds the key), `sizes` (what they offer, "1024x1024" ...), `timeout_s`, `concurrency`.
While they compute, the engine goes on with its own samples.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import httpx
import numpy as np
import torch
from PIL import Image

from workers.engine.errors import InvalidSample, ModelUnavailable, RemoteModelError
from workers.engine.interception import await_future
from workers.engine.interface import Generated, OnStep
from workers.engine.requests import SampleRequest
from workers.engine.spec import ModelSpec

LARGEST_ANSWER = 64 << 20  # bytes; no picture we ask for is larger


class RemoteModel:
    """ModelInterface for text2img, and for img2img and inpaint by their edits."""

    precisions: ClassVar[Sequence[str]] = ()

    def __init__(self, spec: ModelSpec, _device: torch.device) -> None:
        self.spec = spec
        self._options = spec.options
        self._client: httpx.Client | None = None
        self._callers: ThreadPoolExecutor | None = None

    def load(self) -> None:
        """Read the key from the environment. Raises ModelUnavailable if it is not there."""
        variable = self._options.get("api_key_env", "")
        key = os.environ.get(variable, "") if variable else ""
        if variable and not key:
            raise ModelUnavailable(f"model {self.spec.key} needs its key in the environment variable {variable}")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = float(self._options.get("timeout_s", 120))
        self._client = httpx.Client(base_url=self.spec.source, headers=headers, timeout=timeout)
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
        """Close the connections; calls under way are given up."""
        if self._callers is not None:
            self._callers.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

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
        assert self._client is not None
        fields: dict[str, Any] = {"prompt": request.parameters.text, "n": 1, "size": f"{size[0]}x{size[1]}"}
        fields["model"] = self._options.get("model", self.spec.name)
        fields["response_format"] = "b64_json"
        try:
            if request.kind == "text2img":
                answer = self._client.post("images/generations", json=fields)
            else:
                form = {name: str(value) for name, value in fields.items()}
                answer = self._client.post("images/edits", data=form, files=_files(request, size))
        except httpx.HTTPError as error:
            raise RemoteModelError(f"model {self.spec.name} did not answer: {error!r}", retryable=True) from error
        return self._picture(answer)

    def _picture(self, answer: httpx.Response) -> Image.Image:
        if answer.status_code >= 400:
            retryable = answer.status_code in (408, 409, 429) or answer.status_code >= 500
            reason = _reason(answer)
            raise RemoteModelError(f"model {self.spec.name}: {answer.status_code} {reason}", retryable=retryable)
        try:
            if len(answer.content) > LARGEST_ANSWER:
                raise ValueError("the answer is too large")
            encoded = answer.json()["data"][0]["b64_json"]
            return Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
        except (ValueError, KeyError, IndexError, TypeError, OSError, binascii.Error) as error:
            message = f"model {self.spec.name} answered something else than a picture: {error!r}"
            raise RemoteModelError(message, retryable=True) from error


def _reason(answer: httpx.Response) -> str:
    """Their message, if they gave one in the usual place."""
    try:
        return str(answer.json()["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase


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

"""Pictures of `upload/image`: kept for those graphs of the same user that name them, the newest MOST for KEPT_S.

They lie among the inputs of the image store, under ids of no task, and are read by those who may submit: never served.
"""

import hashlib
import io
import json
import time
from pathlib import PurePosixPath
from typing import Any, Final

from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile, UploadedFile
from PIL import Image as Pillow

from generation.accounts.models import User
from imagegenx_site import redis_clients
from imagegenx_site.errors import Busy, Fault, InvalidRequest
from imagegenx_site.ids import uuid7
from postprocessing.client_pictures import FORMATS
from storage.errors import StorageError
from storage.keys import input_key
from storage.store import get_store

MOST: Final = 20  # of a user
KEPT_S: Final = 86400
_MOST_NAME: Final = 200  # characters


def keep(user: User, file: Any, subfolder: str) -> dict[str, str]:
    """What ComfyUI answers: the name under which graphs load the picture. Raises InvalidRequest, Busy."""
    if not isinstance(file, UploadedFile) or not 0 < (file.size or 0) <= settings.MAX_INPUT_BYTES:
        message = f"Send the picture as the part `image` of a form, {settings.MAX_INPUT_BYTES >> 20} MiB at most."
        raise InvalidRequest([Fault("image", "required", message)])
    data = file.read()
    try:
        with Pillow.open(io.BytesIO(data), formats=FORMATS):
            pass  # only the head is read; the graph that names it decodes it
    except Exception as error:  # whatever a damaged file makes Pillow raise
        raise InvalidRequest([Fault("image", "not_a_picture", "Send a PNG, JPEG or WebP.")]) from error
    name = PurePosixPath(str(file.name or "image.png").replace("\\", "/")).name[:_MOST_NAME] or "image.png"
    folder = "/".join(part for part in PurePosixPath(subfolder[:_MOST_NAME]).parts if part not in ("/", "..", "."))
    _store(user, f"{folder}/{name}" if folder else name, data)
    return {"name": name, "subfolder": folder, "type": "input"}


def names(user: User) -> list[str]:
    """What the user can load, the newest first."""
    kept = redis_clients.text_client().hgetall(_place(user))
    return sorted(kept, key=lambda name: -json.loads(kept[name])["at"])


def find(user: User, name: str) -> UploadedFile | None:
    """The picture of that name, also written `name [input]`."""
    kept = redis_clients.text_client().hget(_place(user), name.removesuffix(" [input]")[: 2 * _MOST_NAME])
    if not kept:
        return None
    try:
        data = get_store("images").read(json.loads(kept)["key"])
    except StorageError:
        return None
    return SimpleUploadedFile("upload", data)


def _store(user: User, name: str, data: bytes) -> None:
    """In place of one of the same name, and of the oldest above MOST."""
    client, place = redis_clients.text_client(), _place(user)
    key = input_key(uuid7(), "upload", hashlib.sha256(data).hexdigest(), "image/png")
    try:
        get_store("images").put(key, data, "image/png")
    except StorageError as error:
        raise Busy("The picture could not be stored. Try again in a moment.", retry_after=5) from error
    before = client.hget(place, name)
    client.hset(place, name, json.dumps({"key": key, "at": time.time()}))
    client.expire(place, KEPT_S)
    old = [json.loads(before)["key"]] if before else []
    for forgotten in names(user)[MOST:]:
        old.append(json.loads(client.hget(place, forgotten) or '{"key": ""}')["key"])
        client.hdel(place, forgotten)
    for one in filter(None, old):
        get_store("images").delete(one)


def _place(user: User) -> str:
    return f"gx:comfy:uploads:{user.pk}"

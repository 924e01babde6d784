"""Pictures of `upload/image`: kept for those graphs of the same user that name them, the newest MOST for KEPT_S.

They lie among the inputs of the image store, under ids of no task, and are read by those who may submit: never served.
What Redis has forgotten of them goes with the history of their day.
"""

import hashlib
import json
import time
from pathlib import PurePosixPath
from typing import Any, Final

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from generation.accounts.models import User
from imagegenx_site import redis_clients
from imagegenx_site.errors import Busy, Fault, InvalidRequest
from imagegenx_site.ids import uuid7
from postprocessing.client_pictures import opened
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
        with opened(data):
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


class _KeptUpload(UploadedFile):
    """Read from the store when it is decoded, not before: that waits for the user's turn, and of a hundred requests
    that name a picture of 20 MiB only those in turn hold it.
    """

    def __init__(self, key: str, size: int) -> None:
        super().__init__(None, "upload", size=size)
        self._key = key

    def seek(self, *_: int) -> int:
        return 0

    def read(self, _: int | None = None) -> bytes:
        """All of it. Raises Busy."""
        try:
            return get_store("images").read(self._key)
        except StorageError as error:
            raise Busy("The picture could not be read. Send it again, or try in a moment.", retry_after=5) from error


def find(user: User, name: str) -> UploadedFile | None:
    """The picture of that name, also written `name [input]`."""
    kept = redis_clients.text_client().hget(_place(user), name.removesuffix(" [input]")[: 2 * _MOST_NAME])
    if not kept:
        return None
    row = json.loads(kept)
    return _KeptUpload(row["key"], row["bytes"])


def _store(user: User, name: str, data: bytes) -> None:
    """In place of one of the same name, and of the oldest above MOST."""
    client, place = redis_clients.text_client(), _place(user)
    key = input_key(uuid7(), "upload", hashlib.sha256(data).hexdigest(), "image/png")
    try:
        get_store("images").put(key, data, "image/png")
    except StorageError as error:
        raise Busy("The picture could not be stored. Try again in a moment.", retry_after=5) from error
    row = json.dumps({"key": key, "bytes": len(data), "at": time.time()})
    with client.pipeline() as pipe:  # one transaction: of two uploads of a name at once each takes away the one before
        kept, *_ = pipe.hgetall(place).hset(place, name, row).expire(place, KEPT_S).execute()
    before = {named: json.loads(one) for named, one in kept.items()}
    old = [before.pop(name)["key"]] if name in before else []
    for forgotten in sorted(before, key=lambda named: -before[named]["at"])[MOST - 1 :]:
        if client.hdel(place, forgotten):
            old.append(before[forgotten]["key"])
    for one in old:
        get_store("images").delete(one)


def _place(user: User) -> str:
    return f"gx:comfy:uploads:{user.pk}"

"""The model that a key has chosen by `options`: A1111 has one for everybody, each key has its own here."""

import logging
from typing import Final

import redis

from generation.api.authentication import KeyRequest
from imagegenx_site import redis_clients

_KEPT_S: Final = 30 * 86400
_log = logging.getLogger(__name__)


def of_key(request: KeyRequest) -> str:
    """The title that the key has chosen; empty for none."""
    try:
        return redis_clients.text_client().get(f"gx:sdapi:{request.auth.pk}") or ""
    except redis.RedisError:
        return ""


def keep(request: KeyRequest, title: str) -> None:
    """The key's pictures are made with the model of that title from now on."""
    try:
        redis_clients.text_client().set(f"gx:sdapi:{request.auth.pk}", title[:200], ex=_KEPT_S)
    except redis.RedisError as error:
        _log.warning("the chosen model is not kept: %s", error)

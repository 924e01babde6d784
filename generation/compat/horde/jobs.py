"""Ids of requests of the AI Horde. Its clients follow a request by its id alone, without a key, so the id is a secret
of 122 random bits that stands for one task, as the token of an event stream does, for KEPT_S and as long as the key
that made the task may be used.
"""

import json
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import redis
from django.http import HttpRequest

from generation.accounts import key_cache
from generation.accounts.models import ApiKey
from generation.accounts.plans import plan_of
from generation.admission import rates
from generation.api.authentication import check_alive, count_failure
from generation.compat.base import abandon
from generation.tasks.models import Task
from imagegenx_site import redis_clients
from imagegenx_site.errors import Busy, NotFound

KEPT_S: Final = 86400


@dataclass(frozen=True)
class HordeJob:
    """A request: its task, and whether its pictures are to be addresses."""

    task: Task
    addresses: bool


def begin(task_id: UUID, key: ApiKey, *, addresses: bool) -> UUID:
    """The id of a new request. Raises Busy, and gives the task up, when nobody could follow it."""
    job = uuid4()
    kept = {"task": str(task_id), "key": key.prefix, "addresses": addresses}
    try:
        redis_clients.text_client().set(_name(job), json.dumps(kept), ex=KEPT_S)
    except redis.RedisError as error:
        abandon(task_id)
        raise Busy("The request could not be kept. Try again in a moment.", retry_after=5) from error
    return job


def find(request: HttpRequest, job: UUID) -> HordeJob:
    """The request of that id; counts for the limits of its key. Raises NotFound, Unauthorised, TooManyRequests."""
    found = redis_clients.text_client().get(_name(job))
    kept = json.loads(found) if found else None
    key = key_cache.find(kept["key"]) if kept else None
    task = Task.objects.filter(pk=kept["task"], deleted_at=None).first() if kept else None
    if kept is None or key is None or task is None:
        count_failure(request, guess=False)
        raise NotFound(f"Image Request with ID '{job}' not found.")
    check_alive(key)
    address = f"{key.user_id}:{rates.client_address(request)}"
    rates.hit([("ip", address), ("key", str(key.pk))], plan_of(key).requests_per_second)
    return HordeJob(task, kept["addresses"])


def _name(job: UUID) -> str:
    return f"gx:horde:{job}"

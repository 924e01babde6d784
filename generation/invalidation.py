"""Which cached entries a saved or deleted row makes untrue (generation/caches.py)."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from generation import caches, keyring
from generation.models import ApiKey, Lora, Plan, Team, User
from storage.cache import Cache

_CHUNK = 1000  # keys forgotten by one call to Redis


@receiver([post_save, post_delete], sender=ApiKey)
def forget_key(instance: ApiKey, **_: Any) -> None:
    """Once its change is committed, a key is read anew."""
    forget_prefixes([instance.prefix])


@receiver([post_save, post_delete], sender=User)
def forget_keys_of_user(instance: User, **_: Any) -> None:
    """A user was changed: in or out, another team."""
    _forget_where(Q(user=instance.pk))


@receiver([post_save, post_delete], sender=Team)
def forget_keys_of_team(instance: Team, **_: Any) -> None:
    """A team was bound to another plan."""
    _forget_where(Q(user__team=instance.pk))


@receiver([post_save, post_delete], sender=Plan)
def forget_keys_of_plan(instance: Plan, **_: Any) -> None:
    """A plan was edited."""
    _forget_where(Q(plan=instance.pk) | Q(user__team__plan=instance.pk))


@receiver([post_save, post_delete], sender=Lora)
def forget_lora(instance: Lora, **_: Any) -> None:
    """A LoRA was added, switched or removed."""
    scopes = ["all"]
    if instance.owner is not None:
        scopes = [f"user:{instance.owner_id}", f"team:{instance.owner.team_id}"]
    entries = [f"{scope}:{instance.name}" for scope in scopes]
    _change(caches.loras(), entries)


def forget_prefixes(prefixes: Iterable[str]) -> None:
    """These keys change in the present transaction."""
    found = list(prefixes)
    keyring.forget()
    transaction.on_commit(keyring.forget)
    for start in range(0, len(found), _CHUNK):
        _change(caches.keys(), found[start : start + _CHUNK])


def _change(cache: Cache, entries: list[str]) -> None:
    """Held at once, so that nobody caches the old rows any more; forgotten when the new ones are committed."""
    cache.hold(*entries)
    transaction.on_commit(partial(cache.forget, *entries))


def _forget_where(which: Q) -> None:
    forget_prefixes(ApiKey.objects.filter(which).values_list("prefix", flat=True))

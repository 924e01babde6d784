"""Drops cached API keys when a row that they depend on changes (imagegenx_site/caches.py)."""

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from generation.accounts import key_cache
from generation.accounts.models import ApiKey, Plan, Team, User, keys_updated
from imagegenx_site import caches
from imagegenx_site.caches import change

_CHUNK = 1000  # keys dropped by one call to Redis


@receiver([post_save, post_delete], sender=ApiKey)
def forget_key(instance: ApiKey, **_: Any) -> None:
    forget_prefixes([instance.prefix])


@receiver([post_save, post_delete], sender=User)
def forget_keys_of_user(instance: User, **_: Any) -> None:
    _forget_where(Q(user=instance.pk))


@receiver([post_save, post_delete], sender=Team)
def forget_keys_of_team(instance: Team, **_: Any) -> None:
    _forget_where(Q(user__team=instance.pk))


@receiver([post_save, post_delete], sender=Plan)
def forget_keys_of_plan(instance: Plan, **_: Any) -> None:
    _forget_where(Q(plan=instance.pk) | Q(user__team__plan=instance.pk))


@receiver(keys_updated, sender=ApiKey)
def forget_updated_keys(prefixes: Iterable[str], **_: Any) -> None:
    forget_prefixes(prefixes)


def forget_prefixes(prefixes: Iterable[str]) -> None:
    """Drop these keys from the caches: now, and again after the current transaction has committed."""
    found = list(prefixes)
    key_cache.clear()
    transaction.on_commit(key_cache.clear)
    for start in range(0, len(found), _CHUNK):
        change(caches.keys(), found[start : start + _CHUNK])


def _forget_where(which: Q) -> None:
    forget_prefixes(ApiKey.objects.filter(which).values_list("prefix", flat=True))

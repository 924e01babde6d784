"""Which cached entries a changed LoRA makes untrue (imagegenx_site/caches.py)."""

from typing import Any

from django.db.models.signals import m2m_changed, post_delete, post_save
from django.dispatch import receiver

from generation.catalogue.models import Lora
from imagegenx_site import caches
from imagegenx_site.caches import change


@receiver([post_save, post_delete], sender=Lora)
def forget_lora(instance: Lora, **_: Any) -> None:
    """A LoRA was added, switched or removed."""
    scopes = ["all"]
    if instance.owner is not None:
        scopes = [f"user:{instance.owner_id}", f"team:{instance.owner.team_id}"]
    entries = [f"{scope}:{instance.name}" for scope in scopes]
    change(caches.loras(), entries)


@receiver(m2m_changed, sender=Lora.plans.through)
@receiver(m2m_changed, sender=Lora.teams.through)
def forget_access(instance: Lora, **_: Any) -> None:
    """Other plans or teams may use it."""
    forget_lora(instance=instance)

"""Expired OAuth tokens."""

from celery import shared_task
from django.core.management import call_command


@shared_task(name="maintenance.tokens")
def delete_expired_tokens() -> None:
    """OAuth tokens that have expired."""
    call_command("cleartokens", verbosity=0)

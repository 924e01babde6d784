"""Expired OAuth tokens, and sessions of the admin and the page."""

from celery import shared_task
from django.core.management import call_command


@shared_task(name="maintenance.tokens")
def delete_expired_tokens() -> None:
    """OAuth tokens and sessions that have expired."""
    call_command("cleartokens", verbosity=0)
    call_command("clearsessions", verbosity=0)

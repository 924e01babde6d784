"""Pictures that waited on this machine while the object store was away."""

from celery import shared_task

from storage.store import images


@shared_task(name="maintenance.spool")
def sync_spool() -> None:
    """Pictures that waited on this machine while the object store was away."""
    images().sync()

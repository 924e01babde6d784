"""Results kept for identical requests long enough."""

from celery import shared_task

from generation.tasks import results


@shared_task(name="maintenance.results")
def sweep_results() -> None:
    """Pictures that were kept for identical requests long enough."""
    results.sweep()

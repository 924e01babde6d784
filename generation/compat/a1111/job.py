"""`progress`, `interrupt` and `skip`: what the key has under way."""

from django.db.models import QuerySet
from rest_framework.response import Response

from generation.api.authentication import KeyRequest
from generation.compat.a1111.views import SdapiView
from generation.tasks import cancel, estimates
from generation.tasks.models import OPEN, Status, Task


class ProgressView(SdapiView):
    """How far the key's oldest open task is."""

    def get(self, request: KeyRequest) -> Response:
        """All zero when nothing is open: that is how programs see that their job is done."""
        task = _open_tasks(request).order_by("id").first()
        running = task is not None and task.status != Status.QUEUED
        steps = task.parameters.steps if task else 0
        done = round(task.progress / 100 * steps) if task else 0
        state = {"job": task.public_id if task else "", "job_count": 1 if task else 0, "job_no": 0}
        state |= {"sampling_step": done, "sampling_steps": steps, "skipped": False, "interrupted": False}
        return Response(
            {
                "progress": max(0.01, min(task.progress, 99) / 100) if task and running else 0.0,
                "eta_relative": estimates.outlook(task).seconds if task else 0.0,
                "state": state,
                "current_image": None,
                "textinfo": "waiting" if task and not running else None,
            }
        )


class InterruptView(SdapiView):
    """`interrupt` and `skip`: end what the key has under way."""

    def post(self, request: KeyRequest) -> Response:
        """An empty object, as programs expect."""
        for task in _open_tasks(request):
            cancel.cancel_task(task)
        return Response({})


def _open_tasks(request: KeyRequest) -> QuerySet[Task]:
    return Task.objects.filter(user=request.user, api_key=request.auth, status__in=OPEN, deleted_at=None)

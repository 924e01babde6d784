"""Batches: joint status, cancel, all pictures as a ZIP."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, ClassVar, TypedDict

from django.http.response import HttpResponseBase
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.api.downloads import zip_response
from generation.api.wait import base_url
from generation.tasks import access, cancel, history
from generation.tasks.models import Batch, Image, Status, Task
from generation.tasks.presentation import (
    FailureBody,
    JointStatus,
    Moment,
    PublicStatus,
    failure_body,
    original_url,
    public_status,
)
from imagegenx_site.errors import Conflict


class BatchTaskBody(TypedDict):
    task_id: str
    text: str
    status: PublicStatus
    progress: int
    temp_url: Annotated[str | None, "Its first picture, once there is one."]
    error: FailureBody | None
    query_url: str


class BatchBody(TypedDict):
    batch_id: str
    status: JointStatus
    progress: float
    size: int
    batch_size: Annotated[int | None, "How many of the tasks may share a forward pass; null: no limit was set."]
    counts: Annotated[dict[str, int], "Tasks by status."]
    tasks: list[BatchTaskBody]
    query_url: str
    created_at: Moment


class BatchView(ApiView):
    """A batch as it is now."""

    @extend_schema(**openapi_docs.operation("batch", "Get a batch", "image", data=BatchBody, also=(404,)))
    def get(self, request: KeyRequest, public_id: str) -> Response:
        """The batch, with every task's status and first picture."""
        batch = history.find_batch(public_id, request.user)
        return Response(batch_body(batch, history.tasks_of(batch), base_url=base_url(request)))


class BatchCancelView(ApiView):
    """End what is still open of a batch."""

    @extend_schema(
        **openapi_docs.operation("batch-cancel", "Cancel a batch", "image", data=BatchBody, also=(404,), request=None)
    )
    def post(self, request: KeyRequest, public_id: str) -> Response:
        """Cancel every task that has not ended."""
        batch = history.find_batch(public_id, request.user)
        for task in history.tasks_of(batch):
            if not task.terminal:
                cancel.cancel_task(task)
        return Response(batch_body(batch, history.tasks_of(batch), base_url=base_url(request)))


class BatchDownloadView(ApiView):
    """The pictures of a batch."""

    scopes: ClassVar = {"GET": "read"}

    @extend_schema(**openapi_docs.download("batch-download", "Download all images of a batch as a ZIP"))
    def get(self, request: KeyRequest, public_id: str) -> HttpResponseBase:
        """A ZIP of what has succeeded so far."""
        batch = history.find_batch(public_id, request.user)
        done = [task for task in history.tasks_of(batch) if task.status == Status.SUCCEEDED]
        if not done:
            raise Conflict("No task of the batch has succeeded yet.", retry_after=2)
        return zip_response(done, f"{batch.public_id}.zip", request.user)


def batch_body(batch: Batch, tasks: Sequence[Task], *, base_url: str) -> BatchBody:
    """The batch as clients see it."""
    done = [task.id for task in tasks if task.status == Status.SUCCEEDED]
    images = access.images_of(done) if done else {}
    progress = [100 if task.terminal else min(task.progress, 99) for task in tasks]
    return {
        "batch_id": batch.public_id,
        "status": history.joint_status(tasks) if tasks else "canceled",
        "progress": round(sum(progress) / max(len(progress), 1), 1),
        "size": batch.size,
        "batch_size": batch.batch_size or None,
        "counts": Counter(public_status(task) for task in tasks),
        "tasks": [_task_line(task, images.get(task.id, []), base_url) for task in tasks],
        "query_url": base_url + reverse("batch", args=[batch.public_id]),
        "created_at": batch.created_at.isoformat(timespec="milliseconds"),
    }


def _task_line(task: Task, images: Sequence[Image], base_url: str) -> BatchTaskBody:
    return {
        "task_id": task.public_id,
        "text": task.text,
        "status": public_status(task),
        "progress": 100 if task.status == Status.SUCCEEDED else min(task.progress, 99),
        "temp_url": original_url(images[0], base_url) if images else None,
        "error": failure_body(task),
        "query_url": base_url + reverse("task", args=[task.public_id]),
    }

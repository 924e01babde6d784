"""The endpoints that make tasks and those of one task. Each parses, calls one service and answers."""

import re
from typing import Any, ClassVar, Final

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.parsers import MultiPartParser
from rest_framework.response import Response

from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView, allowances_of
from generation.api.batches import batch_body
from generation.api.forms import GenerateSerializer
from generation.api.json_parser import JSONParser
from generation.api.kind_forms import BatchSerializer, body_of
from generation.api.submission import Wanted, wanted_of
from generation.api.wait import base_url, prefer_wait
from generation.tasks import access, cancel, estimates, repeat
from generation.tasks import delete as tasks_delete
from generation.tasks import submit as tasks_submit
from generation.tasks.estimates import Outlook
from generation.tasks.models import Status, Task
from generation.tasks.presentation import input_body, task_body
from generation.tasks.submit import Idempotency, Submitted
from generation.tasks.view import view_for
from imagegenx_site.errors import Fault, InvalidRequest

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


class SubmitView(ApiView):
    """POST: make a task. 202 with the task; with `Prefer: wait=n` the finished task, when it ends within n seconds."""

    kind: ClassVar[str] = "text2img"
    parser_classes = [JSONParser, MultiPartParser]

    def submit(self, request: KeyRequest) -> Response:
        """Check the request, then make its tasks, or only price them for a dry run."""
        data = _with_deadline(request)
        idempotency = _idempotency(request, self.kind, data)
        wanted = wanted_of(data, kind=self.kind, api_key=request.auth, host=request.get_host())
        if wanted.dry_run:
            return Response(_priced(wanted))
        made = tasks_submit.submit(
            wanted.submissions,
            user=request.user,
            api_key=request.auth,
            idempotency=idempotency,
            batch_size=wanted.batch_size,
        )
        allowances_of(request).extend(made.allowances)
        return submitted_response(request, made)


class GenerateView(SubmitView):
    @extend_schema(**openapi_docs.submitting("generate", GenerateSerializer, "Draw a text"))
    def post(self, request: KeyRequest) -> Response:
        """Text to picture."""
        return self.submit(request)


class Img2ImgView(SubmitView):
    kind = "img2img"

    @extend_schema(
        **openapi_docs.submitting("img2img", openapi_docs.Img2ImgSerializer, "Draw from a picture and a text")
    )
    def post(self, request: KeyRequest) -> Response:
        """Picture to picture."""
        return self.submit(request)


class InpaintView(SubmitView):
    kind = "inpaint"

    @extend_schema(
        **openapi_docs.submitting("inpaint", openapi_docs.InpaintSerializer, "Draw a part of a picture anew")
    )
    def post(self, request: KeyRequest) -> Response:
        """Inpainting."""
        return self.submit(request)


class ControlnetView(SubmitView):
    kind = "controlnet"

    @extend_schema(
        **openapi_docs.submitting(
            "controlnet", openapi_docs.ControlnetSerializer, "Keep lines, depth or pose of a picture"
        )
    )
    def post(self, request: KeyRequest) -> Response:
        """ControlNet."""
        return self.submit(request)


class BatchGenerateView(SubmitView):
    kind = "batch"

    @extend_schema(**openapi_docs.submitting("batch-generate", BatchSerializer, "Draw up to 100 texts", batch=True))
    def post(self, request: KeyRequest) -> Response:
        """Many texts at once."""
        return self.submit(request)


class TaskView(ApiView):
    """The task as it is now."""

    scopes: ClassVar = {"GET": "read", "DELETE": "delete"}

    @extend_schema(**openapi_docs.reading("task", "See a task"))
    def get(self, request: KeyRequest, public_id: str) -> Response:
        """The task; 304 when `If-None-Match` names its present state."""
        task = view_for(public_id, request.user, base_url=base_url(request))
        if task.etag in request.headers.get("If-None-Match", ""):
            return Response(status=304, headers={"ETag": task.etag})
        response = Response(task.body, headers={"ETag": task.etag})
        if not task.ended:
            response["Retry-After"] = "1"
        return response

    @extend_schema(**openapi_docs.changing("task-delete", "Delete a task, its text and its pictures"))
    def delete(self, request: KeyRequest, public_id: str) -> Response:
        """Hide the task and delete its text and pictures."""
        tasks_delete.delete_task(access.find_task(public_id, request.user))
        return Response({"task_id": public_id, "deleted": True})


class CancelView(ApiView):
    """End a task."""

    @extend_schema(**openapi_docs.changing("cancel", "Cancel a task", task=True))
    def post(self, request: KeyRequest, public_id: str) -> Response:
        """Cancel. Asking twice, or for an ended task, changes nothing."""
        task = access.find_task(public_id, request.user)
        return _task_response(request, cancel.cancel_task(task))


class RetryView(ApiView):
    """Run an ended task again."""

    @extend_schema(**openapi_docs.changing("retry", "Run an ended task again, as a new task", task=True, accepted=True))
    def post(self, request: KeyRequest, public_id: str) -> Response:
        """A new task with the same parameters."""
        task = access.find_task(public_id, request.user)
        made = repeat.retry_task(task, user=request.user, api_key=request.auth)
        allowances_of(request).extend(made.allowances)
        return submitted_response(request, made)


def submitted_response(request: KeyRequest, made: Submitted) -> Response:
    """202 with the task or the batch, and where to look for it."""
    if made.batch:
        body = batch_body(made.batch, made.tasks, base_url=base_url(request))
        response = Response(body, status=status.HTTP_202_ACCEPTED)
    else:
        response = _task_response(request, made.tasks[0], status.HTTP_202_ACCEPTED, made.outlook)
        prefer_wait(request._request, response, made.tasks[0].id)
    response["Location"] = response.data["query_url"]
    response["Retry-After"] = "1"
    if not made.new:
        response["Idempotency-Replayed"] = "true"
    return response


def _task_response(request: KeyRequest, task: Task, code: int = 200, outlook: Outlook | None = None) -> Response:
    images = access.images_of([task.id])[task.id] if task.status == Status.SUCCEEDED else []
    known = outlook or estimates.outlook(task)
    return Response(task_body(task, images, base_url=base_url(request), outlook=known), status=code)


def _priced(wanted: Wanted) -> dict[str, Any]:
    """What a dry run answers: that the request is right, what it would cost and how it was understood."""
    first = wanted.submissions[0]
    return {
        "valid": True,
        "tasks": len(wanted.submissions),
        "images": sum(one.parameters.num_images for one in wanted.submissions),
        "megapixel_steps": round(sum(one.parameters.cost for one in wanted.submissions), 4),
        "priority": first.priority,
        "input": input_body(first.text, first.model.key, first.parameters.to_json()),
    }


def _with_deadline(request: KeyRequest) -> Any:
    """The body, with `Cancel-After: 30s` as its `deadline_seconds`."""
    data, header = request.data, request.headers.get("Cancel-After")
    if header is None:
        return data
    found = re.fullmatch(r"(\d{1,5})([smh]?)", header.strip())
    if not found or not int(found[1]):
        raise InvalidRequest([Fault("Cancel-After", "malformed", "A number with s, m or h: 30s, 5m.")])
    body = body_of(data)
    seconds = min(int(found[1]) * _SECONDS[found[2] or "s"], 86400)
    return {**body, "deadline_seconds": seconds} if isinstance(body, dict) else body


def _idempotency(request: KeyRequest, route: str, data: Any) -> Idempotency | None:
    key = request.headers.get("Idempotency-Key", "").strip().strip('"')
    if not key:
        return None
    if len(key) > 255 or not key.isprintable():
        raise InvalidRequest([Fault("Idempotency-Key", "out_of_range", "At most 255 printable characters.")])
    return Idempotency.of(key, route, body_of(data))

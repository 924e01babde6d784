"""The endpoints of one task. Each parses, calls one service and answers."""

from typing import Any, ClassVar, cast

from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response
from rest_framework.views import APIView

from generation import services
from generation.api.authentication import KeyRequest
from generation.api.requests import GenerateSerializer
from generation.api.submitting import submission_of
from generation.api.waiting import base_url
from generation.errors import Conflict, Fault, InvalidRequest, NotFound
from generation.models import Image, Status, Task
from generation.representation import task_body
from generation.services import Idempotency
from storage.errors import NotFound as ObjectGone
from storage.keys import content_type
from storage.store import get_store


class SubmitView(APIView):
    """POST: make a task. 202 with the task; with `Prefer: wait=n` the finished task, when it ends within n seconds."""

    kind: ClassVar[str] = "text2img"

    @extend_schema(request=GenerateSerializer)
    def post(self, request: KeyRequest) -> Response:
        submission = submission_of(request.data, kind=self.kind, api_key=request.auth)
        idempotency = _idempotency(request, self.kind)
        task, new = services.submit_task(submission, user=request.user, api_key=request.auth, idempotency=idempotency)
        response = _task_response(request, task, status.HTTP_202_ACCEPTED)
        response["Location"] = response.data["query_url"]
        response["Retry-After"] = "1"
        if not new:
            response["Idempotency-Replayed"] = "true"
        response.submitted_task_id = task.id  # type: ignore[attr-defined]  # read by generation.api.waiting
        return response


class TaskView(APIView):
    """GET: the task as it is now."""

    def get(self, request: KeyRequest, public_id: str) -> Response:
        return _task_response(request, services.find_task(public_id, request.user))


class CancelView(APIView):
    """POST: end the task. Asking twice, or for an ended task, changes nothing."""

    def post(self, request: KeyRequest, public_id: str) -> Response:
        task = services.find_task(public_id, request.user)
        return _task_response(request, services.cancel_task(task))


class TaskImageView(APIView):
    """GET: a picture of the task, for its owner. `outputs[].url` of the task are addresses that need no key."""

    def get(self, request: KeyRequest, public_id: str) -> HttpResponseBase:
        index, variant = _picture_asked(request)
        image = _find_image(request, public_id, index)
        etag = f'"{image.sha256[:32]}-{variant}"'
        if request.headers.get("If-None-Match") == etag:
            return HttpResponse(status=304, headers={"ETag": etag})
        return _picture(image, variant, etag)


def _task_response(request: KeyRequest, task: Task, code: int = 200) -> Response:
    images = services.images_of([task.id])[task.id] if task.status == Status.SUCCEEDED else []
    body = task_body(task, images, base_url=base_url(request), estimated_time=services.estimated_time(task))
    return Response(body, status=code)


def _idempotency(request: KeyRequest, route: str) -> Idempotency | None:
    key = request.headers.get("Idempotency-Key", "").strip().strip('"')
    if not key:
        return None
    if len(key) > 255:
        raise InvalidRequest([Fault("Idempotency-Key", "out_of_range", "At most 255 characters.")])
    return Idempotency.of(key, route, cast(dict[str, Any], request.data))


def _picture_asked(request: KeyRequest) -> tuple[int, str]:
    index, variant = request.query_params.get("index", "0"), request.query_params.get("variant", "original")
    faults = []
    if not (index.isascii() and index.isdigit() and len(index) <= 4):
        faults.append(Fault("index", "wrong_type", "The picture's number, from 0."))
    if variant not in ("original", "thumbnail"):
        faults.append(Fault("variant", "not_allowed", "original or thumbnail."))
    if faults:
        raise InvalidRequest(faults)
    return int(index), variant


def _find_image(request: KeyRequest, public_id: str, index: int) -> Image:
    task = services.find_task(public_id, request.user)
    if not task.terminal:
        raise Conflict("The task has not ended: there is no picture yet.", retry_after=1)
    image = Image.objects.filter(task=task, index=index).first()
    if image is None or task.status != Status.SUCCEEDED:
        raise NotFound(f"The task has no picture {index}.")
    return image


def _picture(image: Image, variant: str, etag: str) -> HttpResponseBase:
    """The bytes, or a redirect to the store's own signed address when it has one."""
    key = image.key if variant == "original" else image.thumbnail_key
    store = get_store("images")
    address = store.url(key, settings.URL_SECONDS)
    if address.startswith("http"):
        return HttpResponseRedirect(address)
    try:
        data = store.read(key)
    except ObjectGone as error:
        raise NotFound("The picture is no longer in the store.") from error
    headers = {"ETag": etag, "Cache-Control": "private, max-age=3600, immutable", "X-Content-Type-Options": "nosniff"}
    return HttpResponse(data, content_type=content_type(key), headers=headers)

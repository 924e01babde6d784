"""The endpoints that make tasks and those of one task. Each parses, calls one service and answers."""

import re
from typing import Annotated, Any, ClassVar, Final, TypedDict

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.response import Response

from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView, Upload, allowances_of
from generation.api.batches import BatchBody, batch_body
from generation.api.bounds.fetching import names_address, refuse_without_slot, with_pictures
from generation.api.kind_forms import body_of, several
from generation.api.requests.idempotency import PARAMETER, idempotency_of
from generation.api.submission import ParsedRequest, check_request
from generation.api.validation import JSONParser, MultiPartParser
from generation.api.wait import DeferredResponse, base_url, prefer_wait, requested_seconds
from generation.catalogue.kinds import Kind
from generation.catalogue.request_warnings import submission_warnings
from generation.tasks import access, cancel, estimates, repeat
from generation.tasks import delete as tasks_delete
from generation.tasks import submit as tasks_submit
from generation.tasks.estimates import Outlook
from generation.tasks.models import Status, Task
from generation.tasks.presentation import InputBody, TaskBody, input_body, task_body, with_options
from generation.tasks.submit import Submitted
from generation.tasks.view import view_for
from imagegenx_site.errors import Fault, InvalidRequest
from imagegenx_site.http.etags import is_known

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


class PriceBody(TypedDict):
    """What a dry run answers."""

    valid: bool
    tasks: int
    images: int
    megapixel_steps: float
    priority: int
    estimated_time: Annotated[float, "Seconds until all of it would probably be done, the waiting included."]
    warnings: Annotated[list[str], "What of the request would not count."]
    input: Annotated[InputBody, with_options]


class SubmitView(ApiView):
    """POST: make a task. 202 with the task; with `Prefer: wait=n` the finished task, when it ends within n seconds."""

    kind: ClassVar[Kind]
    parser_classes = [JSONParser, MultiPartParser]

    @classmethod
    def upload(cls) -> Upload:
        return Upload.of_pictures()

    def submit(self, request: KeyRequest) -> Response:
        """Check the request, then make its tasks, or only price them for a dry run."""
        data = _with_deadline(request)
        if names_address(data, self.kind.roles):
            refuse_without_slot(request.auth)
        idempotency = idempotency_of(request, self.kind.name, body_of(data))
        checked = check_request(data, kind=self.kind, api_key=request.auth, host=request.get_host())

        def answer(parsed: ParsedRequest) -> Response:
            if parsed.dry_run:
                return Response(price_body(parsed))
            made = tasks_submit.submit(
                parsed.submissions,
                user=request.user,
                api_key=request.auth,
                idempotency=idempotency,
                batch_size=parsed.batch_size,
            )
            allowances_of(request).extend(made.allowances)
            return submitted_response(request, made)

        return with_pictures(self, request, checked, answer)


def submit_view(kind: Kind) -> type[SubmitView]:
    """The endpoint of a kind."""

    def post(self: SubmitView, request: KeyRequest) -> Response:
        return self.submit(request)

    post.__doc__ = kind.description
    done = PriceBody if kind.many_texts else TaskBody | PriceBody
    accepted = BatchBody if kind.many_texts else TaskBody | BatchBody if several(kind) else TaskBody
    described = extend_schema(**openapi_docs.submit_operation(kind, accepted, done))(post)
    name = f"{kind.path.title().replace('-', '')}View"
    return type(name, (SubmitView,), {"__doc__": kind.summary, "kind": kind, "post": described})


class TaskDetailView(ApiView):
    """The task as it is now."""

    scopes: ClassVar = {"GET": "read", "DELETE": "delete"}

    @extend_schema(**openapi_docs.read_operation("task", "Get a task"))
    def get(self, request: KeyRequest, public_id: str) -> Response:
        """The task; 304 when `If-None-Match` names its present state. With `Prefer: wait=n`, an open task when it has
        ended, or as it is after n seconds.
        """
        task = view_for(public_id, request.user, base_url=base_url(request))
        waits = not task.ended and requested_seconds(request._request)
        if is_known(request._request, task.etag) and not waits:
            return Response(status=304, headers={"ETag": task.etag})
        response = DeferredResponse(task.body, headers={"ETag": task.etag})
        if not task.ended:
            response["Retry-After"] = "1"
            prefer_wait(request._request, response, task.task_id)
        return response

    @extend_schema(**openapi_docs.change_operation("task-delete", "Delete a task, its prompt and its images"))
    def delete(self, request: KeyRequest, public_id: str) -> Response:
        """Hide the task and delete its text and pictures."""
        tasks_delete.delete_task(access.find_task(public_id, request.user))
        return Response({"task_id": public_id, "deleted": True})


class CancelView(ApiView):
    """End a task."""

    @extend_schema(**openapi_docs.change_operation("cancel", "Cancel a task", task=True))
    def post(self, request: KeyRequest, public_id: str) -> Response:
        """Cancel. Asking twice, or for an ended task, changes nothing."""
        task = access.find_task(public_id, request.user)
        return Response(_body(request, cancel.cancel_task(task)))


class RetryView(ApiView):
    """Run an ended task again."""

    @extend_schema(
        **openapi_docs.change_operation(
            "retry", "Run an ended task again, as a new task", task=True, accepted=True, parameters=[PARAMETER]
        )
    )
    def post(self, request: KeyRequest, public_id: str) -> Response:
        """A new task with the same parameters."""
        task = access.find_task(public_id, request.user)
        idempotency = idempotency_of(request, "retry", {"task": public_id})
        made = repeat.retry_task(task, user=request.user, api_key=request.auth, idempotency=idempotency)
        allowances_of(request).extend(made.allowances)
        return submitted_response(request, made)


def submitted_response(request: KeyRequest, made: Submitted) -> Response:
    """202 with the task or the batch, and where to look for it."""
    response = DeferredResponse(status=status.HTTP_202_ACCEPTED)
    if made.batch:
        response.data = batch_body(made.batch, made.tasks, base_url=base_url(request))
    else:
        response.data = _body(request, made.tasks[0], made.outlook)
        prefer_wait(request._request, response, made.tasks[0].id)
    response["Location"] = response.data["query_url"]
    response["Retry-After"] = "1"
    if not made.new:
        response["Idempotency-Replayed"] = "true"
    return response


def _body(request: KeyRequest, task: Task, outlook: Outlook | None = None) -> TaskBody:
    images = access.images_of([task.id])[task.id] if task.status == Status.SUCCEEDED else []
    return task_body(task, images, base_url=base_url(request), outlook=outlook or estimates.outlook(task))


def price_body(parsed: ParsedRequest) -> PriceBody:
    """What a dry run answers: that the request is right, what it would cost and how it was understood."""
    first = parsed.submissions[0]
    return {
        "valid": True,
        "tasks": len(parsed.submissions),
        "images": sum(one.parameters.num_images for one in parsed.submissions),
        "megapixel_steps": round(sum(one.parameters.cost for one in parsed.submissions), 4),
        "priority": first.priority,
        "estimated_time": estimates.seconds_of([one.parameters for one in parsed.submissions], first.priority),
        "warnings": [*first.warnings, *submission_warnings(first.parameters, first.model)],
        "input": input_body(first.text, first.model.key if first.model else "", first.parameters.to_json()),
    }


def _with_deadline(request: KeyRequest) -> Any:
    """The body, with `Cancel-After: 30s` as its `deadline_seconds`."""
    data, header = request.data, request.headers.get("Cancel-After")
    if header is None:
        return data
    found = re.fullmatch(openapi_docs.CANCEL_AFTER, header.strip())
    if not found:
        raise InvalidRequest([Fault("Cancel-After", "malformed", "A number with s, m or h: 30s, 5m.")])
    body = body_of(data)
    seconds = min(int(found[1]) * _SECONDS[found[2] or "s"], 86400)
    return {**body, "deadline_seconds": seconds} if isinstance(body, dict) else body

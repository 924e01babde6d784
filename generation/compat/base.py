"""What the compatible endpoints share: a request becomes one task, and its finished pictures are the answer."""

import base64
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

import redis
from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from generation.accounts.plans import plan_of
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView, Upload, allowances_of
from generation.api.bounds.fetching import with_pictures
from generation.api.envelope import as_api_error, json_bytes
from generation.api.submission import ParsedRequest, check_request
from generation.api.wait import DeferredResponse, finished_instead, when_ended
from generation.catalogue import snapshot
from generation.catalogue.kinds import Kind
from generation.catalogue.snapshot import Catalogue
from generation.tasks import access, cancel, history, submit
from generation.tasks.models import Image, Status, Task
from imagegenx_site import redis_clients
from imagegenx_site.errors import ApiError, Conflict, Fault, InvalidRequest, TooManyRequests
from storage.errors import StorageError
from storage.store import get_store

REPEAT_S = 900  # s in which a repeated request is taken for the one before it
Answer = Callable[[Task, Sequence[Image]], Any]  # of a finished task and its pictures
BatchAnswer = Callable[[Sequence[tuple[Task, Sequence[Image]]]], Any]  # of the finished tasks of a batch
_log = logging.getLogger(__name__)


class TaskFailed(ApiError):
    """The task came to another end than success; its message is the task's own."""

    http_status = 500
    code = "generation_failed"


class TaskCanceled(Conflict):
    """The client, or a team-mate, has cancelled the task."""

    code = "canceled"


class TookTooLong(ApiError):
    """Not finished within COMPAT_WAIT_SECONDS; the task was cancelled, because nobody could fetch its pictures."""

    http_status = 504
    code = "timeout"


def catalogue_of(request: KeyRequest) -> Catalogue:
    """The models and styles that the key's plan and team may use: no door lists or takes others."""
    return snapshot.current().usable_by(plan_of(request.auth), request.user.team_id)


class CompatView(ApiView):
    """An endpoint outside of /api/v1: plain JSON, errors in the form of `failure`."""

    renderer_classes = [JSONRenderer]
    schema = None  # not of our own documents
    challenge: ClassVar[str] = 'Bearer realm="ImageGenX"'
    answers_partly: ClassVar[bool] = False  # of several tasks, those that somebody canceled have no pictures

    @classmethod
    def upload(cls) -> Upload:
        return Upload.of_pictures()

    def failure(self, error: ApiError) -> dict[str, Any]:
        """The body of an answer to a request that failed."""
        raise NotImplementedError

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Keep the body as it came, before a parser takes it: repeats are known by it."""
        _ = request._request.body
        super().initial(request, *args, **kwargs)

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return self._failed

    def _failed(self, raised: Exception, context: dict[str, Any]) -> Response | None:
        error = as_api_error(raised)
        if error is None:
            return None
        if isinstance(error, TooManyRequests):
            allowances_of(context["request"]).extend(error.allowances)
        return Response(self.failure(error), status=error.http_status, headers=self._headers(error))

    def _headers(self, error: ApiError) -> dict[str, str]:
        found = {}
        if error.retry_after is not None:
            found["Retry-After"] = str(error.retry_after)
        if error.http_status == 401:
            found["WWW-Authenticate"] = self.challenge
        if isinstance(error, TaskFailed | TaskCanceled | TookTooLong) or (error.retry_after or 0) > REPEAT_S:
            found["x-should-retry"] = "false"  # OpenAI's clients repeat 409, 429 and 5xx of themselves
        return found

    def generate(self, request: KeyRequest, body: Mapping[str, Any], kind: Kind, answer: Answer) -> Response:
        """Submit, and answer `answer(task, pictures)` when the task has succeeded."""
        return self.submit(request, body, kind, partial(self.when_finished, answer))

    def submit(
        self, request: KeyRequest, body: Mapping[str, Any], kind: Kind, reply: Callable[[UUID], Response]
    ) -> Response:
        """Submit one task, and answer `reply(its id)`. A repeat of the request meets the task of its first try."""
        repeated = self._find_repeat(request)
        if repeated:
            return reply(repeated)
        checked = check_request(body, kind=kind, api_key=request.auth, host=request.get_host())
        return with_pictures(self, request, checked, lambda parsed: reply(self._submit(request, parsed)))

    def when_finished(self, answer: Answer, task_id: UUID) -> Response:
        """The answer comes when the task has ended."""
        return self._deferred((task_id,), partial(self._answered, task_id, answer))

    def generate_each(self, request: KeyRequest, body: Mapping[str, Any], kind: Kind, answer: BatchAnswer) -> Response:
        """Submit a request of several pictures, and answer `answer(its tasks with theirs)` when all have succeeded."""
        return self.submit(request, body, kind, partial(self._when_all_finished, answer))

    def _when_all_finished(self, answer: BatchAnswer, first: UUID) -> Response:
        task = Task.objects.get(pk=first)
        ids = [one.id for one in history.tasks_of(task.batch)] if task.batch else [first]

        def answered(ended: bool) -> Any:
            if not ended:
                give_up(*ids)
            rows, images = Task.objects.in_bulk(ids), access.images_of(ids)
            return answer([(self._or_canceled(rows[one]), images[one]) for one in ids])

        return self._deferred(tuple(ids), answered)

    def _or_canceled(self, task: Task) -> Task:
        partly = self.answers_partly and task.status == Status.CANCELLED
        return task if partly else succeeded(task)

    def _deferred(self, ids: tuple[UUID, ...], answered: Callable[[bool], Any]) -> Response:
        response = DeferredResponse({"task_id": str(ids[0])}, status=202)

        def finished(ended: bool, accepted: HttpResponseBase) -> HttpResponseBase:
            try:
                return finished_instead(accepted, json_bytes(answered(ended)))
            except (ApiError, APIException) as error:
                return self._failure_instead(error, accepted)

        response.deferred = when_ended(ids, settings.COMPAT_WAIT_SECONDS, finished, partial(abandon, *ids))
        return response

    def canceled(self, task: Task, answer: Answer) -> Any:
        """What the client gets of a task that somebody cancelled while it waited. Raises TaskCanceled."""
        raise TaskCanceled("The task was canceled.")

    def _answered(self, task_id: UUID, answer: Answer, ended: bool) -> Any:
        if not ended:
            give_up(task_id)
        task = Task.objects.get(pk=task_id)
        if task.status == Status.CANCELLED:
            return self.canceled(task, answer)
        return answer(succeeded(task), access.images_of([task_id])[task_id])

    def _failure_instead(self, raised: Exception, accepted: HttpResponseBase) -> HttpResponseBase:
        error = as_api_error(raised)
        assert error is not None
        failed: HttpResponse = finished_instead(accepted, json_bytes(self.failure(error)), error.http_status)
        for name, value in self._headers(error).items():
            failed[name] = value
        return failed

    def _submit(self, request: KeyRequest, parsed: ParsedRequest) -> UUID:
        made = submit.submit(parsed.submissions, user=request.user, api_key=request.auth, batch_size=parsed.batch_size)
        allowances_of(request).extend(made.allowances)
        task_id = made.tasks[0].id
        try:
            redis_clients.text_client().set(_repeat_key(request), str(task_id), ex=REPEAT_S)
        except redis.RedisError as error:
            _log.warning("a repeat of this request will make another task: %s", error)
        return task_id

    def _find_repeat(self, request: KeyRequest) -> UUID | None:
        """The task of the request that this one repeats: OpenAI's clients send no idempotency key, but say that they
        try again.
        """
        if request.headers.get("x-stainless-retry-count", "0") == "0":
            return None
        try:
            found = redis_clients.text_client().get(_repeat_key(request))
        except redis.RedisError:
            return None
        return UUID(found) if found and not _is_canceled(UUID(found)) else None


def _repeat_key(request: KeyRequest) -> str:
    content = request.path.encode() + b"\n" + request._request.body
    return f"gx:compat:{request.auth.pk}:{hashlib.sha256(content).hexdigest()}"


def succeeded(task: Task) -> Task:
    """The task, if its pictures are there. Raises what its other ends mean for who waited: TaskCanceled, InvalidRequest
    for pictures that were refused, TaskFailed.
    """
    if task.status == Status.SUCCEEDED:
        return task
    if task.status == Status.CANCELLED:
        raise TaskCanceled("The task was canceled.")
    if task.error_code.startswith("policy_"):  # the pictures were made and refused
        raise InvalidRequest([Fault("prompt", task.error_code, task.error_message)])
    raise TaskFailed(task.error_message or f"The task was {task.status}.")


def _is_canceled(task_id: UUID) -> bool:
    """As by a client that went away before it tried again: it wants its pictures, not the end of the first try."""
    return Task.objects.filter(pk=task_id, status=Status.CANCELLED).exists()


def give_up(*task_ids: UUID) -> None:
    """The time is over. Raises TookTooLong."""
    abandon(*task_ids)
    raise TookTooLong(f"The pictures were not finished within {settings.COMPAT_WAIT_SECONDS:g} s. Try again later.")


def abandon(*task_ids: UUID) -> None:
    """Nobody waits for the tasks any more, and nobody else knows their ids."""
    for task in Task.objects.filter(pk__in=task_ids):
        if not task.terminal:
            cancel.cancel_task(task)


def in_base64(image: Image) -> str:
    """A finished picture as text. Raises TaskFailed when it is no longer in the store."""
    try:
        return base64.b64encode(get_store("images").read(image.key)).decode()
    except StorageError as error:
        raise TaskFailed("The picture could not be read from the store.") from error

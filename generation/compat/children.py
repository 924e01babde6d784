"""The children's picture service: POST /generate, GET /status/{task_id}, GET /result/{task_id}.png, GET /health.

These doors open to keys alone whose profile allows child-safe styles only. Where the operator names such a key by its
id (CHILDREN_KEY), requests without a key have that one's rights, here and nowhere else: its profile, plan, quotas and
limits hold for them all together, and they see the tasks of that key alone.
"""

from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from rest_framework.request import Request
from rest_framework.response import Response

from generation.accounts import key_cache
from generation.accounts.models import ApiKey, User
from generation.api import health as readiness
from generation.api.authentication import ApiKeyAuthentication, KeyRequest, check_alive
from generation.api.base import Upload, allowances_of
from generation.api.bounds.fetching import with_pictures
from generation.api.submission import ParsedRequest, check_request
from generation.api.wait import base_url
from generation.catalogue import snapshot
from generation.catalogue.kinds import of_pictures
from generation.compat.base import CompatView
from generation.policy import rules
from generation.tasks import access, submit
from generation.tasks.models import Status, Task
from generation.tasks.presentation import public_status
from imagegenx_site.errors import ApiError, Conflict, Fault, Forbidden, InvalidRequest, NotFound, Unauthorised
from imagegenx_site.ids import from_public
from storage.errors import StorageError
from storage.store import get_store

_STATUS: Final = {"queued": "queued", "running": "processing", "succeeded": "completed"}  # all others: failed
_FIELDS: Final = {"text": "prompt", "params.style": "style"}


class ChildSafeKeyAuthentication(ApiKeyAuthentication):
    """The request's own key, else the one that the operator named; in any case one with a child-safe profile."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        found = super().authenticate(request)
        key = found[1] if found else _named_key()
        if key is None:
            return None
        if not rules.is_child_safe(key):
            raise Forbidden("This address takes keys alone whose profile allows child-safe styles only.")
        return key.user, key


def _named_key() -> ApiKey | None:
    """The key of CHILDREN_KEY; None where none is named. Raises Unauthorised when it can't be used any more."""
    if not settings.CHILDREN_KEY:
        return None
    key = key_cache.find(settings.CHILDREN_KEY)
    if key is None or key.must_sign:
        raise Unauthorised("This service is not set up. Ask its operator to look at CHILDREN_KEY.")
    check_alive(key)
    key_cache.record_use(key)
    return key


class ChildrenView(CompatView):
    """Errors with a `detail`, as that service has them."""

    authentication_classes = [ChildSafeKeyAuthentication]

    @classmethod
    def upload(cls) -> Upload | None:  # type: ignore[override]  # no pictures come in here
        return None

    def failure(self, error: ApiError) -> dict[str, Any]:
        detail = error.message
        if isinstance(error, InvalidRequest):
            detail = " ".join(fault.sentence(_FIELDS) for fault in error.faults)
        return {"detail": detail, "error": error.code}


class ChildrenGenerateView(ChildrenView):
    """A text to a picture."""

    def post(self, request: KeyRequest) -> Response:
        """The task's id, at once."""
        asked = request.data if isinstance(request.data, dict) else {}
        params = {"style": _style(asked.get("style")), "format": "png"}
        body = {"text": asked.get("prompt", ""), "params": params}
        checked = check_request(body, kind=of_pictures(()), api_key=request.auth, host=request.get_host())
        return with_pictures(self, request, checked, partial(self._begun, request))

    def _begun(self, request: KeyRequest, parsed: ParsedRequest) -> Response:
        made = submit.submit(parsed.submissions, user=request.user, api_key=request.auth)
        allowances_of(request).extend(made.allowances)
        return Response({"task_id": made.tasks[0].public_id, "message": "Your picture is being made."})


class ChildrenStatusView(ChildrenView):
    """How far a picture is."""

    def get(self, request: KeyRequest, public_id: str) -> Response:
        """The task in that service's words."""
        task = _find(request, public_id)
        public = public_status(task)
        status = _STATUS.get(public, "failed")
        done = status == "completed"
        return Response(
            {
                "task_id": task.public_id,
                "prompt": task.text,
                "style": task.style,
                "status": status,
                "image_url": f"{base_url(request)}/result/{task.public_id}.png" if done else None,
                "error": task.error_message or f"The task was {public}." if status == "failed" else None,
                "timestamp": task.created_at.isoformat(timespec="seconds"),
            }
        )


class ChildrenResultView(ChildrenView):
    """A finished picture."""

    def get(self, request: KeyRequest, public_id: str) -> HttpResponse:
        """The PNG."""
        task = _find(request, public_id)
        if not task.terminal:
            raise Conflict("The picture is not ready yet.", retry_after=1)
        images = access.images_of([task.id])[task.id] if task.status == Status.SUCCEEDED else []
        if not images:
            raise NotFound("There is no picture: the task has failed.")
        try:
            data = get_store("images").read(images[0].key)
        except StorageError as error:
            raise NotFound("The picture is no longer in the store.") from error
        return HttpResponse(data, content_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """200 while pictures can be asked for."""
    good = readiness.ready(request).status_code == 200
    body = {"status": "healthy" if good else "unhealthy", "timestamp": datetime.now(UTC).isoformat(timespec="seconds")}
    return JsonResponse(body, status=200 if good else 503)


def _style(name: Any) -> str:
    """A child-safe style: the first one where none is named. Raises InvalidRequest with those that there are."""
    safe = [style for style in snapshot.current().styles if style.child_safe]
    found = snapshot.current().style_named(name) if isinstance(name, str) and name else None
    if name in (None, "") and safe:
        return safe[0].name
    if found is None or not found.child_safe:
        names = ", ".join(style.name for style in safe)
        raise InvalidRequest([Fault("style", "not_allowed", f"There is no such style here. Styles: {names}.")])
    return found.name


def _find(request: KeyRequest, public_id: str) -> Task:
    """A task of this very key, whose PNG is all that these doors give out. Raises NotFound."""
    task_id = from_public(public_id)
    rows = Task.objects.filter(pk=task_id, api_key=request.auth, deleted_at=None) if task_id else Task.objects.none()
    task = rows.first()
    if task is None or task.parameters.postprocess.get("format") != "png":
        raise NotFound("There is no such picture here.")
    return task

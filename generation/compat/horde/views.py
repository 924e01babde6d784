"""`/api/v2/*`: the AI Horde's API. The key stands in the header `apikey`; what is of one request needs its id alone."""

from functools import partial
from typing import Any, Final
from uuid import UUID

from rest_framework.response import Response

from generation.api.authentication import KeyRequest
from generation.api.bounds.fetching import with_pictures
from generation.api.submission import ParsedRequest, check_request
from generation.api.tasks import price_body
from generation.api.wait import base_url
from generation.catalogue.kinds import of_pictures
from generation.compat.base import CompatView, catalogue_of
from generation.compat.horde import form, jobs
from generation.tasks import access, cancel, estimates
from generation.tasks.models import Status
from imagegenx_site.errors import ApiError, Forbidden, Unauthorised

ANONYMOUS: Final = "0000000000"
_NO_STRANGERS: Final = "There are no anonymous requests here. Send a key of this server (igx_…) in the header `apikey`."


class HordeView(CompatView):
    """Errors as the Horde has them."""

    def failure(self, error: ApiError) -> dict[str, Any]:
        return form.error_body(error)

    def perform_authentication(self, request: Any) -> None:
        """The Horde's key for everybody is nobody's here. Raises Unauthorised."""
        if request.headers.get("apikey") == ANONYMOUS:
            raise Unauthorised(_NO_STRANGERS)
        super().perform_authentication(request)


class HordeGenerateView(HordeView):
    """`generate/async`."""

    def post(self, request: KeyRequest) -> Response:
        """202 with the id of the request; of a dry run 200 with its price in megapixel-steps."""
        if request.auth.oauth_client:
            raise Forbidden("Access tokens can't be used here, as who follows a request sends none. Send an API key.")
        asked = request.data if isinstance(request.data, dict) else {}
        kind, body = form.request_of(asked, catalogue_of(request))
        if asked.get("dry_run"):
            checked = check_request(body, kind=kind, api_key=request.auth, host=request.get_host())
            return with_pictures(self, request, checked, _price)
        addresses = asked.get("r2") is not False
        return self.submit(request, body, kind, partial(self._accepted, request, addresses))

    def _accepted(self, request: KeyRequest, addresses: bool, task_id: UUID) -> Response:
        job = jobs.begin(task_id, request.auth, addresses=addresses)
        return Response({"id": str(job), "kudos": 0.0}, status=202)


class HordeJobView(HordeView):
    """One request, for everybody who knows its id (jobs.py)."""

    authentication_classes = []
    permission_classes = []

    def perform_authentication(self, request: Any) -> None:
        """The id stands for the key."""


class HordeCheckView(HordeJobView):
    """`generate/check/{id}`."""

    def get(self, request: KeyRequest, job: UUID) -> Response:
        """How far the request is."""
        task = jobs.find(request._request, job).task
        return Response(form.progress(task, estimates.outlook(task)))


class HordeStatusView(HordeJobView):
    """`generate/status/{id}`."""

    def get(self, request: KeyRequest, job: UUID) -> Response:
        """How far the request is, and its pictures."""
        found = jobs.find(request._request, job)
        images = access.images_of([found.task.id])[found.task.id] if found.task.status == Status.SUCCEEDED else []
        return Response(self._body(request, found, images))

    def delete(self, request: KeyRequest, job: UUID) -> Response:
        """Cancel; what is finished stays."""
        found = jobs.find(request._request, job)
        cancel.cancel_task(found.task)
        found.task.refresh_from_db()
        images = access.images_of([found.task.id])[found.task.id] if found.task.status == Status.SUCCEEDED else []
        return Response(self._body(request, found, images))

    def _body(self, request: KeyRequest, found: jobs.HordeJob, images: Any) -> dict[str, Any]:
        shown = form.progress(found.task, estimates.outlook(found.task))
        pictures = form.generations(found.task, images, base_url(request._request), addresses=found.addresses)
        return {**shown, "shared": False, "generations": pictures}


class HordeUserView(HordeView):
    """`find_user`: programs show by it that a key is right."""

    def get(self, request: KeyRequest) -> Response:
        """Whose the key is."""
        return Response({"username": f"{request.user.username}#{request.user.pk}", "id": request.user.pk, "kudos": 0.0})


class HordeModelsView(HordeView):
    """`status/models`."""

    def get(self, request: KeyRequest) -> Response:
        """The models that make pictures from texts."""
        kind = of_pictures(()).name
        shown = {"count": 1, "performance": 0.0, "queued": 0.0, "jobs": 0.0, "eta": 0, "type": "image"}
        return Response([{"name": one.name, **shown} for one in catalogue_of(request).models if kind in one.kinds])


class HordeHeartbeatView(HordeView):
    """`status/heartbeat`."""

    def get(self, request: KeyRequest) -> Response:
        """That the server is there."""
        return Response({"message": "OK"})


def _price(parsed: ParsedRequest) -> Response:
    return Response({"kudos": price_body(parsed)["megapixel_steps"]})

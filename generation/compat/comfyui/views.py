"""The addresses of ComfyUI's API. Queue and history, which ComfyUI has once, each key has for itself."""

from functools import partial
from typing import Any, ClassVar, Final
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.response import Response

from generation.api.authentication import KeyRequest
from generation.api.validation import JSONParser, MultiPartParser
from generation.catalogue import loras
from generation.catalogue.models import Lora
from generation.compat.base import CompatView, catalogue_of
from generation.compat.comfyui import answers, graph, nodes, records, uploads
from generation.tasks import access, cancel
from generation.tasks.models import OPEN, Status, Task
from imagegenx_site.errors import ApiError, InvalidRequest, NotFound
from storage.errors import StorageError
from storage.keys import content_type
from storage.store import get_store

_MOST_SHOWN: Final = 64  # of a history


class ComfyView(CompatView):
    """Errors as ComfyUI has them; keys also as HTTP Basic, which its clients can send."""

    challenge: ClassVar[str] = 'Basic realm="ImageGenX"'

    def failure(self, error: ApiError) -> dict[str, Any]:
        return answers.error_body(error)


class ComfyPromptView(ComfyView):
    """`/prompt`: submit a graph."""

    scopes: ClassVar = {"GET": "read"}

    def get(self, request: KeyRequest) -> Response:
        """How many of the key's prompts have not ended."""
        return Response({"exec_info": {"queue_remaining": open_tasks(request.auth.pk).count()}})

    def post(self, request: KeyRequest) -> Response:
        """The id of the prompt; the pictures come by `/history`, and `/ws` says when."""
        asked = request.data if isinstance(request.data, dict) else {}
        want = graph.wanted(asked.get("prompt"), catalogue_of(request), partial(uploads.find, request.user))
        client_id = str(asked.get("client_id") or "")[:200]
        kept = partial(self._accepted, request, want, client_id, asked["prompt"])
        self._want = want
        return self.submit(request, want.body, want.kind, kept)

    def failure(self, error: ApiError) -> dict[str, Any]:
        """Faults of our own checks stand at the nodes that they come from."""
        want: graph.GraphRequest | None = getattr(self, "_want", None)
        if isinstance(error, InvalidRequest) and want:
            return answers.faults_body(error, want.places, want.types)
        return super().failure(error)

    def _accepted(
        self, request: KeyRequest, want: graph.GraphRequest, client_id: str, asked: dict[str, Any], task_id: UUID
    ) -> Response:
        record = records.PromptRecord(task_id, want.ends, want.sampler, client_id, asked, want.prefix)
        records.keep(request.auth, record)
        return Response({"prompt_id": str(task_id), "number": answers.number_of(task_id), "node_errors": {}})


class ComfyHistoryView(ComfyView):
    """`/history`: what has ended."""

    scopes: ClassVar = {"GET": "read"}

    def get(self, request: KeyRequest, prompt_id: UUID | None = None) -> Response:
        """By id; an empty object while it runs."""
        if prompt_id:
            found = records.find(prompt_id)
            wanted = [found] if found else []
        else:
            wanted = records.newest(request.auth)[:_MOST_SHOWN]
        tasks = Task.objects.select_related("user").filter(deleted_at=None)
        ended = {task.id: task for task in tasks.filter(pk__in=[one.task_id for one in wanted]) if task.terminal}
        mine = [one for one in wanted if one.task_id in ended and access.may_see(ended[one.task_id], request.user)]
        images = access.images_of([one.task_id for one in mine])
        return Response(
            {
                str(one.task_id): answers.history_entry(one, ended[one.task_id], images[one.task_id])
                for one in reversed(mine)
            }
        )

    def post(self, request: KeyRequest) -> Response:
        """`clear`, or `delete` these: out of the list, not out of the store."""
        asked = request.data if isinstance(request.data, dict) else {}
        if asked.get("clear"):
            records.forget(request.auth)
        elif named := _ids(asked.get("delete")):
            records.forget(request.auth, named)
        return Response({})


class ComfyQueueView(ComfyView):
    """`/queue`: what the key has under way."""

    scopes: ClassVar = {"GET": "read"}

    def get(self, request: KeyRequest) -> Response:
        """Running ones and waiting ones."""
        rows = dict(open_tasks(request.auth.pk).values_list("id", "status"))
        mine = [one for one in reversed(records.newest(request.auth)) if one.task_id in rows]
        waiting = [answers.queue_entry(one) for one in mine if rows[one.task_id] == Status.QUEUED]
        running = [answers.queue_entry(one) for one in mine if rows[one.task_id] != Status.QUEUED]
        return Response({"queue_running": running, "queue_pending": waiting})

    def post(self, request: KeyRequest) -> Response:
        """`clear`, or `delete` these: waiting ones are cancelled."""
        asked = request.data if isinstance(request.data, dict) else {}
        waiting = open_tasks(request.auth.pk).filter(status=Status.QUEUED)
        named = _ids(asked.get("delete"))
        for task in waiting if asked.get("clear") else waiting.filter(pk__in=named) if named else ():
            cancel.cancel_task(task)
        return Response({})


class ComfyInterruptView(ComfyView):
    """`/interrupt`."""

    def post(self, request: KeyRequest) -> Response:
        """Ends what the key has running, or the named prompt."""
        asked = request.data if isinstance(request.data, dict) else {}
        named = _ids([asked.get("prompt_id")])
        mine = open_tasks(request.auth.pk)
        for task in mine.filter(pk__in=named) if named else mine.exclude(status=Status.QUEUED):
            cancel.cancel_task(task)
        return Response({})


class ComfyPictureView(ComfyView):
    """`/view`: a finished picture by its file's name."""

    scopes: ClassVar = {"GET": "read"}

    def get(self, request: KeyRequest) -> HttpResponse:
        """The bytes. Uploaded pictures are not shown again."""
        named = answers.file_named(request.query_params.get("filename", ""))
        if named is None:
            raise NotFound("There is no such picture.")
        task = access.find_task(named[0], request.user)
        image = task.image_rows.filter(index=named[1]).first() if task.status == Status.SUCCEEDED else None
        if image is None:
            raise NotFound("There is no such picture.")
        try:
            data = get_store("images").read(image.key)
        except StorageError as error:
            raise NotFound("The picture is no longer in the store.") from error
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=3600"}
        return HttpResponse(data, content_type=content_type(image.key), headers=headers)


class ComfyUploadView(ComfyView):
    """`/upload/image`."""

    parser_classes = [MultiPartParser, JSONParser]

    def post(self, request: KeyRequest) -> Response:
        """The name under which LoadImage finds the picture."""
        folder = request.data.get("subfolder") if hasattr(request.data, "get") else ""
        file = request.data.get("image") if hasattr(request.data, "get") else None
        return Response(uploads.keep(request.user, file, folder if isinstance(folder, str) else ""))


class ComfyObjectInfoView(ComfyView):
    """`/object_info`: the nodes."""

    scopes: ClassVar = {"GET": "read"}

    def get(self, request: KeyRequest, name: str | None = None) -> Response:
        """All of them, or the named one."""
        return Response(nodes.object_info(catalogue_of(request), _loras(request), uploads.names(request.user), name))


class ComfyModelsView(ComfyView):
    """`/models/{folder}`: names of files, as ComfyUI calls them."""

    scopes: ClassVar = {"GET": "read"}

    def get(self, request: KeyRequest, folder: str | None = None) -> Response:
        """The folders, or what is in one."""
        if folder is None:
            return Response(["checkpoints", "loras"])
        if folder == "checkpoints":
            return Response(catalogue_of(request).model_names())
        if folder == "loras":
            rows = _loras(request).filter(state=Lora.State.ACTIVE).order_by("name", "-version")[:1000]
            return Response([str(row) for row in rows])
        return Response([])


class ComfyFixedView(ComfyView):
    """What programs ask for at their start."""

    scopes: ClassVar = {"GET": "read"}
    body: ClassVar[Any] = None

    def get(self, request: KeyRequest) -> Response:
        """Always the same."""
        return Response(self.body)


STATS: Final = {"system": {"os": "ImageGenX", "comfyui_version": "0.3.0", "embedded_python": False}, "devices": []}


def open_tasks(key_id: Any) -> QuerySet[Task]:
    """What a key has under way, by whatever door it came."""
    return Task.objects.filter(api_key_id=key_id, status__in=OPEN, deleted_at=None)


def _ids(given: Any) -> list[UUID]:
    """The ids among these; what is none is nobody's prompt."""
    found = []
    for one in given if isinstance(given, list) else []:
        try:
            found.append(UUID(one))
        except (ValueError, TypeError, AttributeError):
            continue
    return found[:100]


def _loras(request: KeyRequest) -> QuerySet[Lora]:
    return loras.visible(request.user, request.auth.effective_plan)

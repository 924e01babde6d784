"""`/ws?clientId=...` of ComfyUI: what happens to the prompts that a client has submitted under its id, with this key.

    status                   how many of the key's prompts have not ended: at first, and after each end
    execution_start, executing, progress     of a running prompt; `node` is its KSampler
    executed                 the pictures, for each node that saves
    execution_success | execution_error | execution_interrupted, then executing with node null     its end

Nothing that a client sends is read, and it may send little (imagegenx_site/web_server.py). A user has STREAMS_PER_USER
sockets and event streams of each kind. A socket ends when its key or token does, within RECHECK_S.
"""

import asyncio
import io
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qs
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import InterfaceError, OperationalError, close_old_connections
from django.utils import timezone
from redis.exceptions import RedisError

from generation.accounts.models import ApiKey
from generation.accounts.oauth import is_alive
from generation.accounts.plans import plan_of
from generation.admission import rates
from generation.api.authentication import key_of_request
from generation.api.base import require_scope
from generation.compat.comfyui import answers, records
from generation.compat.comfyui.records import PromptRecord
from generation.compat.comfyui.views import open_tasks
from generation.tasks import access, watchers
from generation.tasks.models import Status, Task
from imagegenx_site.errors import ApiError, Forbidden, Unauthorised
from imagegenx_site.http.origins import of_another_site
from imagegenx_site.slots import Slots, SlotsFull

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
RECHECK_S: Final = 60.0
_open = Slots()
_log = logging.getLogger(__name__)
_END: Final = {
    Status.SUCCEEDED: "execution_success",
    Status.CANCELLED: "execution_interrupted",
    Status.FAILED: "execution_error",
    Status.EXPIRED: "execution_error",
}


async def serve(scope: Any, receive: Receive, send: Send) -> None:
    """One socket. A caller without a right to it gets 403 instead of the handshake."""
    await receive()  # websocket.connect
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    client_id = (query.get("clientId") or [""])[0][:200]
    try:
        key = await sync_to_async(_authorise)(scope)
        with _open.hold((f"user {key.user_id}", settings.STREAMS_PER_USER)):
            await send({"type": "websocket.accept"})
            await _Socket(key, client_id, send).run(receive)
    except (ApiError, SlotsFull, OperationalError, InterfaceError, RedisError) as error:
        _log.info("a socket is refused: %s", error)
        await send({"type": "websocket.close"})


def _authorise(scope: Any) -> ApiKey:
    """The key of the handshake. Raises ApiError."""
    close_old_connections()
    request = ASGIRequest({**scope, "type": "http", "method": "GET"}, io.BytesIO())
    if of_another_site(request.headers):
        raise Forbidden("A page of another site.")  # a browser sends Basic credentials that it knows on its own
    key = key_of_request(request)
    if key is None:
        raise Unauthorised("No API key.")
    counters = [("ip", f"{key.user_id}:{rates.client_address(request)}"), ("key", str(key.pk))]
    rates.hit(counters, plan_of(key).requests_per_second)
    require_scope(key, "read")
    return key


class _Socket:
    """One client: follows each of its prompts until the client leaves."""

    def __init__(self, key: ApiKey, client_id: str, send: Send) -> None:
        self._key, self._client_id, self._send_raw = key, client_id, send
        self._lock = asyncio.Lock()
        self._followed: dict[UUID, asyncio.Task[None]] = {}

    async def run(self, receive: Receive) -> None:
        """Subscribe first, then look at what there is, so that nothing falls between."""
        async with watchers.reader().watch(records.watched(self._key, self._client_id)) as news:
            await self._status()
            for record in await sync_to_async(self._under_way)():
                self._follow(record)
            ends = (asyncio.ensure_future(_until_left(receive)), asyncio.ensure_future(_until_ended(self._key)))
            try:
                await self._listen(news, ends)
            finally:
                for task in (*ends, *self._followed.values()):
                    task.cancel()
                await asyncio.gather(*ends, *self._followed.values(), return_exceptions=True)

    async def _listen(self, news: watchers.Queue, ends: tuple[asyncio.Future[None], ...]) -> None:
        while not any(end.done() for end in ends):
            coming = asyncio.ensure_future(news.get())
            awaited: list[asyncio.Future[Any]] = [coming, *ends]
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                return
            if record := await sync_to_async(records.find)(UUID(coming.result().data["task"])):
                self._follow(record)

    def _under_way(self) -> list[PromptRecord]:
        mine = [one for one in records.newest(self._key) if one.client_id == self._client_id]
        rows = set(open_tasks(self._key.pk).values_list("id", flat=True)) if mine else set()
        return [one for one in mine if one.task_id in rows]

    def _follow(self, record: PromptRecord) -> None:
        self._followed = {name: task for name, task in self._followed.items() if not task.done()}
        if record.task_id not in self._followed:
            self._followed[record.task_id] = asyncio.create_task(self._report(record))

    async def _report(self, record: PromptRecord) -> None:
        """Everything about one prompt. A server that is away ends it: the client sees it in the history later."""
        try:
            await self._report_all(record)
        except (OperationalError, InterfaceError, RedisError) as error:
            _log.warning("a socket can't follow %s: %s", record.task_id, error)

    async def _report_all(self, record: PromptRecord) -> None:
        prompt = {"prompt_id": str(record.task_id)}
        started = False
        async with watchers.reader().watch(record.task_id) as queue:
            ended = bool(await watchers.ends_of([str(record.task_id)]))
            while not ended:
                event = await queue.get()
                ended = event.is_end
                running = event.kind == "progress" or (event.kind == "status" and event.data["status"] == "running")
                if running and not started:
                    started = True
                    await self._send("execution_start", prompt)
                    await self._send("executing", {**prompt, "node": record.sampler, "display_node": record.sampler})
                if event.kind == "progress":
                    of = {"value": event.data["step"], "max": event.data["steps"], "node": record.sampler}
                    await self._send("progress", {**prompt, **of})
        for kind, data in await sync_to_async(_end_of)(record):
            await self._send(kind, {**prompt, **data})
        await self._status()

    async def _status(self) -> None:
        left = await sync_to_async(lambda: open_tasks(self._key.pk).count())()
        data = {"status": {"exec_info": {"queue_remaining": left}}, "sid": self._client_id}
        await self._send("status", data)

    async def _send(self, kind: str, data: dict[str, Any]) -> None:
        async with self._lock:
            await self._send_raw({"type": "websocket.send", "text": json.dumps({"type": kind, "data": data})})


def _end_of(record: PromptRecord) -> list[tuple[str, dict[str, Any]]]:
    """What is told of an ended prompt."""
    close_old_connections()  # one that broke while the prompt was followed
    task = Task.objects.filter(pk=record.task_id).first()
    if task is None or not task.terminal:
        return []
    found: list[tuple[str, dict[str, Any]]] = []
    if task.status == Status.SUCCEEDED:
        images = answers.files(task, access.images_of([task.id])[task.id], record.prefix)
        found += [("executed", {"node": end, "output": {"images": images}}) for end in record.ends]
    failed = {"node_id": record.sampler, "node_type": "KSampler", "executed": [], "traceback": []}
    failed |= {"exception_message": task.error_message or f"The task was {task.status}.",
               "exception_type": task.error_code or str(task.status)}  # fmt: skip
    found.append((_END[Status(task.status)], {} if task.status == Status.SUCCEEDED else failed))
    return [*found, ("executing", {"node": None})]


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        continue


async def _until_ended(key: ApiKey) -> None:
    while await sync_to_async(_is_usable)(key):
        await asyncio.sleep(RECHECK_S)


def _is_usable(key: ApiKey) -> bool:
    """Whether the key that opened a socket would open one now; yes while Postgres is away."""
    close_old_connections()
    try:
        row = ApiKey.objects.filter(pk=key.pk, revoked_at=None, user__is_active=True).first()
        if row is None:
            return False
        if key.oauth_client:  # of an access token, which has its own end and grant
            row.expires_at, row.made_through_id, row.oauth_grant = key.expires_at, key.pk, key.oauth_grant
        return (row.expires_at is None or row.expires_at > timezone.now()) and is_alive(row)
    except (OperationalError, InterfaceError):
        return True

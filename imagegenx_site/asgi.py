"""The web process: Django over ASGI, with its static files in front so that they cost no database work.

Nearly every view is synchronous. Such a request goes to a thread once, and everything of it happens there: middleware,
view, rendering, the end of the request. (Django's own handler switches between the event loop and the thread for the
start, for each middleware, for the view and for the end, and each of these switches costs as much as a query:
docs/decisions/0006.) What has to wait does so on the event loop: server-sent events are asynchronous views, and a view
that wants to answer later says so by a `Deferred` (imagegenx_site/deferred.py).
"""

import asyncio
import contextvars
import functools
import os
import resource
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, TypeVar

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "imagegenx_site.settings")

import django
from asgiref.sync import ThreadSensitiveContext, iscoroutinefunction
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core import signals
from django.core.exceptions import RequestAborted, SuspiciousOperation
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import response_for_exception
from django.db import close_old_connections
from django.http import Http404, HttpRequest
from django.urls import Resolver404, ResolverMatch, resolve, set_script_prefix

from imagegenx_site.deferred import Deferrable, Deferred, mark_deferrable
from imagegenx_site.web.bodies import BoundedBodies
from imagegenx_site.web.threads import RequestThread, RequestThreads

Answer = TypeVar("Answer")
_MATCH: Final = "imagegenx.match"  # in a scope: the ResolverMatch of its path, or None


class _SyncHandler(BaseHandler):
    """Django's chain of middleware and view, all of it synchronous."""

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """The view; found already when the request came in."""
        return request.resolver_match or super().resolve_request(request)


class SingleThreadHandler(ASGIHandler):
    """Django's ASGI handler, except that a synchronous view's whole request runs in one thread, in one call."""

    def __init__(self, threads: RequestThreads) -> None:
        super().__init__()
        self._threads = threads
        self._chain = _SyncHandler()
        self._chain.load_middleware(is_async=False)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        thread = self._threads.least_busy()
        match = scope[_MATCH] if _MATCH in scope else _match(scope)
        if match is not None and iscoroutinefunction(match.func):
            async with ThreadSensitiveContext(executor=thread):
                await self.handle(scope, receive, send)
            return
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with body:
            await self._run_in(scope, match, body, thread, receive, send)

    async def _run_in(
        self, scope: Any, match: ResolverMatch | None, body: Any, thread: RequestThread, receive: Any, send: Any
    ) -> None:
        context = contextvars.copy_context()  # of this request: what its first call binds, its later ones see

        async def in_thread(function: Callable[..., Answer], *args: Any) -> Answer:
            return await asyncio.get_running_loop().run_in_executor(thread, context.run, function, *args)

        request, response = await in_thread(self._respond, scope, match, body)
        while isinstance(response, Deferrable) and response.deferred is not None:
            deferred, response.deferred = response.deferred, None
            async with ThreadSensitiveContext(executor=thread):
                in_time = await _unless_disconnected(deferred.wait(), receive)
            if in_time is None:
                await in_thread(deferred.abandon)
                return
            response = await in_thread(_finish, request, deferred, in_time, response)
        if not response.streaming:
            await self.send_response(response, send)
            return
        async with ThreadSensitiveContext(executor=thread):
            await _unless_disconnected(self.send_response(response, send), receive)
            await in_thread(response.close)

    def _respond(self, scope: Any, match: ResolverMatch | None, body: Any) -> Any:
        """The whole of a request, in a thread. A streamed answer is closed when it has been sent."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=self.__class__, scope=scope)
        request, refusal = self.create_request(scope, body)
        response: Any = refusal
        if request is not None:
            request.META.setdefault("CONTENT_LENGTH", str(_size(body)))  # of a chunked body; parsers go by it
            request.resolver_match = match
            mark_deferrable(request)
            response = self._chain.get_response(request)
        response._handler_class = self.__class__
        if not response.streaming and getattr(response, "deferred", None) is None:
            response.close()  # not of a deferred one: it closes the request's uploads
        return request, response


def _size(body: Any) -> int:
    size: int = body.seek(0, os.SEEK_END)
    body.seek(0)
    return size


def _match(scope: Any) -> ResolverMatch | None:
    try:
        return resolve(scope["path"].removeprefix(scope.get("root_path", "")))
    except (Resolver404, UnicodeDecodeError):
        return None


def _finish(request: HttpRequest, deferred: Deferred, in_time: bool, accepted: Any) -> Any:
    """The answer after the wait; the one before is closed when nothing follows."""
    close_old_connections()  # while this request waited, Postgres may have been restarted
    try:
        response: Any = deferred.answer(in_time, accepted)
    except Exception as error:
        response = response_for_exception(request, error)
    if getattr(response, "deferred", None) is None:
        accepted.close()
    return response


async def _unless_disconnected(work: Any, receive: Any) -> Any:
    """What `work` answers; None when the client disconnects first."""
    working, listening = asyncio.ensure_future(work), asyncio.ensure_future(receive())
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)


class _StaticFiles(ASGIStaticFilesHandler):
    """Static files; a path that leads out of their folder names none."""

    def serve(self, request: HttpRequest) -> Any:
        try:
            return super().serve(request)
        except (SuspiciousOperation, ValueError) as error:  # ValueError: a NUL in the path
            raise Http404("There is no such file.") from error


class WebProcess:
    """The ASGI application, and the threads that it uses."""

    def __init__(self) -> None:
        django.setup(set_prefix=False)
        _raise_file_limit()
        self._threads = RequestThreads(settings.WEB_THREADS)
        self._application = _StaticFiles(SingleThreadHandler(self._threads))
        self._bounded = BoundedBodies(self._application, self._in_thread)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] == "websocket":
            async with ThreadSensitiveContext(executor=self._threads.least_busy()):
                await _sockets().get(scope["path"], _refuse)(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        scope[_MATCH] = _match(scope)
        await self._bounded(scope, receive, send, scope[_MATCH])

    async def _in_thread(self, function: Callable[..., Answer], *args: Any) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads.least_busy(), function, *args)

    async def close(self) -> None:
        """Close the connections to Postgres and end the threads."""
        await self._threads.close()


@functools.cache
def _sockets() -> dict[str, Any]:
    """The websockets of the urlconf, by path."""
    found: dict[str, Any] = import_module(settings.ROOT_URLCONF).websockets
    return found


async def _refuse(scope: Any, receive: Any, send: Any) -> None:
    """Instead of the handshake: the client gets 403."""
    await send({"type": "websocket.close"})


def _raise_file_limit() -> None:
    """Each client that holds a connection is an open file; systems start processes with room for 1024 or less."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def make_application() -> WebProcess:
    """The web process as an ASGI application."""
    return WebProcess()


application = make_application()

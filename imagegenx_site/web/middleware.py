"""Django middleware for both kinds of server, synchronous and ASGI, from one generator."""

from collections.abc import Callable, Generator
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.utils.decorators import sync_and_async_middleware

Steps = Generator[None, Any, None]


def middleware(steps_of: Callable[[HttpRequest], Steps]) -> Callable[[Callable[[HttpRequest], Any]], Any]:
    """What stands before the one `yield` is done before the view, what follows it with the response that `yield`
    answers. An exception of the view is raised there.
    """

    def around(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
        if iscoroutinefunction(get_response):

            async def asynchronous(request: HttpRequest) -> Any:
                steps = _begun(steps_of, request)
                try:
                    response = await get_response(request)
                except BaseException as error:
                    steps.throw(error)
                    raise
                return _ended(steps, response)

            return asynchronous

        def synchronous(request: HttpRequest) -> Any:
            steps = _begun(steps_of, request)
            try:
                response = get_response(request)
            except BaseException as error:
                steps.throw(error)
                raise
            return _ended(steps, response)

        return synchronous

    around.__name__, around.__doc__ = steps_of.__name__, steps_of.__doc__
    return sync_and_async_middleware(around)


def _begun(steps_of: Callable[[HttpRequest], Steps], request: HttpRequest) -> Steps:
    steps = steps_of(request)
    next(steps)
    return steps


def _ended(steps: Steps, response: Any) -> Any:
    try:
        steps.send(response)
    except StopIteration:
        return response
    raise RuntimeError("a middleware yields once")

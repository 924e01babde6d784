"""History: the caller's tasks, newest first."""

from typing import Any, ClassVar, TypedDict

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from generation.accounts.models import User
from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.api.openapi.fields import ResolutionField
from generation.api.requests import spellings
from generation.api.requests.choices import OneOf
from generation.api.validation import DayField, StrictSerializer, checked
from generation.api.wait import base_url
from generation.catalogue import snapshot
from generation.catalogue.kinds import task_kinds
from generation.catalogue.parameters import parse_resolution
from generation.tasks import access, history
from generation.tasks.history import LARGEST_PAGE, Filters
from generation.tasks.models import Status
from generation.tasks.presentation import TaskBody, task_body
from generation.tasks.sorting import boards
from generation.tasks.sorting.picks import MARKS, Picks


class FiltersSerializer(StrictSerializer):
    """The query of the history. Days are UTC and inclusive; times are read as their day."""

    limit = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_PAGE, default=20)
    cursor = serializers.CharField(required=False, max_length=60, help_text="`next_cursor` of the previous page.")
    since = DayField(required=False, help_text="First day, such as 2026-11-20.")
    until = DayField(required=False, help_text="Last day.")
    status = OneOf(history.FILTERS, also=spellings.STATUSES, required=False, help_text="`open`: queued or running.")
    kind = OneOf(task_kinds(), required=False)
    style = serializers.CharField(required=False, max_length=50)  # type: ignore[assignment]  # DRF's own name
    model = serializers.CharField(required=False, max_length=60)
    resolution = ResolutionField(required=False)
    text = serializers.CharField(required=False, max_length=200, help_text="Text that the prompt contains.")
    batch_id = serializers.CharField(required=False, max_length=60)
    mark = OneOf(MARKS, required=False, help_text="Tasks with such pictures; `outputs` has only these.")
    board_id = serializers.CharField(
        required=False, max_length=60, help_text="Tasks with pictures on this board; `outputs` has only these."
    )
    team = serializers.BooleanField(required=False, default=False, help_text="Include tasks of your team.")

    def validate_resolution(self, text: str) -> tuple[int, int]:
        sides = parse_resolution(text)
        if sides is None:
            raise serializers.ValidationError("Write width x height in pixels, for example 512x512.", "malformed")
        return sides


class PageBody(TypedDict):
    items: list[TaskBody]
    next_cursor: str | None
    has_more: bool
    kept_days: int


class HistoryView(ApiView):
    """The caller's tasks."""

    scopes: ClassVar = {"GET": "read"}

    @extend_schema(
        **openapi_docs.operation(
            "tasks",
            "List tasks, newest first",
            "image",
            data=PageBody,
            also=(404,),
            parameters=[FiltersSerializer],
        )
    )
    def get(self, request: KeyRequest) -> Response:
        """A page of tasks and the cursor of the next."""
        asked = checked(FiltersSerializer, request.query_params.dict())
        filters = _filters(asked, request.user)
        page = history.page(request.user, filters, limit=asked["limit"], cursor=asked.get("cursor", ""))
        images = access.images_of([task.id for task in page.tasks if task.status == Status.SUCCEEDED])
        images = filters.picks.among(images)
        base = base_url(request)
        items = [task_body(task, images.get(task.id, []), base_url=base) for task in page.tasks]
        body: PageBody = {
            "items": items,
            "next_cursor": page.next_cursor or None,
            "has_more": bool(page.next_cursor),
            "kept_days": settings.HISTORY_DAYS,
        }
        return Response(body)


def _style(name: str) -> str:
    """As tasks have it; the name itself where there is no such style any more."""
    style = snapshot.current().style_named(name)
    return style.name if style else name


def _filters(asked: dict[str, Any], user: User) -> Filters:
    board = boards.find(asked["board_id"], user) if "board_id" in asked else None
    return Filters(
        first_day=asked.get("since"),
        last_day=asked.get("until"),
        status=asked.get("status", ""),
        kind=asked.get("kind", ""),
        style=_style(asked.get("style", "")),
        model=asked.get("model", ""),
        sides=asked.get("resolution"),
        text=asked.get("text", ""),
        batch=asked.get("batch_id", ""),
        picks=Picks(asked.get("mark", ""), board.pk if board else None),
        team=asked["team"] or (board is not None and board.shared),
    )

"""Tasks: a list with thumbnails, filters and search; the history of each; cancel, repeat, re-prioritise."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from redis.exceptions import RedisError
from unfold.admin import TabularInline
from unfold.views import ChangeList

from generation.admin.base import CappedPaginator, Choices, ReadOnlyMixin, StaffAdmin, choice_filter
from generation.admin.overview import overview_page
from generation.admin.queues import queues_page
from generation.catalogue import snapshot
from generation.catalogue.kinds import task_kinds
from generation.catalogue.models import ImageModel
from generation.queue.classes import CLASSES
from generation.tasks import cancel, repeat
from generation.tasks.enqueue import set_priority
from generation.tasks.models import Image, Status, Task
from generation.tasks.presentation import image_url, original_url
from generation.webhooks.models import Delivery
from imagegenx_site.errors import ApiError
from imagegenx_site.ids import first_id_of, from_public, image_id

LISTED_DAYS: Final = 90
MOST_AT_ONCE: Final = 1000  # tasks of one action


class DayFilter(admin.SimpleListFilter):
    """The newest days, as a range of ids: only their partitions are read. Without a choice: a week."""

    title = "created"
    parameter_name = "created"
    default = "7"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("0", "today"), ("1", "since yesterday"), ("7", "last 7 days"), ("30", "last 30 days"), ("90", "all")]

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Without Django's own "All": the last choice stands for it."""
        chosen = self.value() or self.default
        for value, title in self.lookup_choices:
            query = changelist.get_query_string({self.parameter_name: value})
            yield {"selected": chosen == value, "query_string": query, "display": title}

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        given = self.value()
        days = int(given) if given in dict(self.lookup_choices) else int(self.default)
        return queryset.filter(id__gte=first_id_of(datetime.now(UTC).date() - timedelta(days=days)))


class ImageInline(ReadOnlyMixin, TabularInline):
    model = Image
    fields = ("index", "picture", "seed", "width", "height", "format", "bytes", "sha256")
    readonly_fields = fields
    extra = 0

    @admin.display(description="picture")
    def picture(self, image: Image) -> SafeString:
        return _thumbnail(image, 192)


class DeliveryInline(ReadOnlyMixin, TabularInline):
    model = Delivery
    fields = ("event_type", "url", "state", "attempts", "response_status", "next_at", "delivered_at")
    readonly_fields = fields
    extra = 0


class TaskList(ChangeList):
    """A page of tasks with their first images, whose ids are derived from those of the tasks."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        done = [image_id(task.id, 0) for task in self.result_list if task.status == Status.SUCCEEDED]
        found = {image.task_id: image for image in Image.objects.filter(pk__in=done)} if done else {}
        for task in self.result_list:
            task.first_image = found.get(task.id)


@admin.register(Task)
class TaskAdmin(ReadOnlyMixin, StaffAdmin):
    """Read-only; actions change tasks through the same functions as the API."""

    list_display = (
        "thumbnail",
        "public_id",
        "state",
        "short_text",
        "user",
        "model_key",
        "size",
        "priority_name",
        "created",
    )
    list_display_links = ("public_id",)
    list_filter = (
        DayFilter,
        "status",
        choice_filter("kind", lambda: [(kind, kind) for kind in task_kinds()]),
        choice_filter("priority", lambda: [(str(number), f"P{number}") for number in CLASSES]),
        choice_filter("model", lambda: [(str(pk), name) for pk, name in ImageModel.objects.values_list("pk", "name")]),
        choice_filter("style", lambda: [(style.name, style.title) for style in snapshot.current().styles]),
    )
    list_select_related = ("user", "model")
    list_per_page = 50
    list_max_show_all = 50
    sortable_by = ()  # any order but that of the ids would sort every row of the days
    search_fields = ("text", "user__username")
    search_help_text = "Task id, or words of the prompt or user name within the selected days."
    show_full_result_count = False
    paginator = CappedPaginator
    ordering = ("-id",)
    actions = ("cancel_tasks", "make_again", "to_p0", "to_p1", "to_p2", "to_p3")
    inlines = (ImageInline, DeliveryInline)
    fieldsets = (
        (None, {"fields": ("public_id", "state", "progress", "user", "api_key", "priority", "warnings", "error")}),
        ("Request", {"fields": ("kind", "text", "model_key", "style", "size", "parameters", "callback_url")}),
        ("Progress", {"fields": ("attempt", "worker", "stage_owner", "stage_attempts", "events")}),
        ("Times", {"fields": ("created_at", "expires_at", "started_at", "generated_at", "stored_at", "finished_at")}),
    )

    def get_urls(self) -> list[URLPattern]:
        pages = {"overview": overview_page(self), "queues": queues_page(self)}
        own = [
            path(f"{name}/", self.admin_site.admin_view(page), name=f"generation_task_{name}")
            for name, page in pages.items()
        ]
        return [*own, *super().get_urls()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return TaskList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        """The last LISTED_DAYS; bounded on both sides, so that the DEFAULT partition is not read."""
        today = datetime.now(UTC).date()
        days = first_id_of(today - timedelta(days=LISTED_DAYS)), first_id_of(today + timedelta(days=1))
        return super().get_queryset(request).filter(id__gte=days[0], id__lt=days[1])

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, term: str) -> tuple[QuerySet, bool]:
        """A task id is looked up by primary key; other words are searched in prompts and user names."""
        task_id = from_public(term.strip())
        if task_id:
            return Task.objects.filter(pk=task_id), False
        return super().get_search_results(request, queryset, term)

    @admin.display(description="")
    def thumbnail(self, task: Task) -> SafeString | str:
        image = getattr(task, "first_image", None)
        return _thumbnail(image, 64) if image else ""

    @admin.display(description="status")
    def state(self, task: Task) -> str:
        return f"{task.status} {task.progress} %" if task.status == Status.RUNNING else task.status

    @admin.display(description="prompt")
    def short_text(self, task: Task) -> str:
        return task.text if len(task.text) <= 60 else task.text[:59] + "…"

    @admin.display(description="size")
    def size(self, task: Task) -> str:
        return f"{task.width}x{task.height}"

    @admin.display(description="priority")
    def priority_name(self, task: Task) -> str:
        return f"P{task.priority}"

    @admin.display(description="created (UTC)")
    def created(self, task: Task) -> SafeString:
        return format_html('<span style="white-space:nowrap">{}</span>', f"{task.created_at:%m-%d %H:%M:%S}")

    @admin.display(description="error")
    def error(self, task: Task) -> str:
        return f"{task.error_code}: {task.error_message}" if task.error_code else "-"

    @admin.display(description="parameters")
    def parameters(self, task: Task) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(task.params, ensure_ascii=False, indent=2))

    @admin.display(description="history")
    def events(self, task: Task) -> SafeString:
        rows = ((entry.get("at", ""), _event_text(entry)) for entry in task.history)
        return format_html("<ol>{}</ol>", format_html_join("", "<li><code>{}</code> {}</li>", rows))

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel_tasks(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        ended = [cancel.cancel_task(task) for task in queryset[:MOST_AT_ONCE] if not task.terminal]
        self.message_user(request, f"{len(ended)} task(s) canceled. Running ones stop at their next step.")

    @admin.action(description="Regenerate (as new tasks)", permissions=["operate"])
    def make_again(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        made = 0
        for task in queryset.order_by("id")[:MOST_AT_ONCE]:
            try:
                repeat.repeat_for_owner(task)
                made += 1
            except ApiError as error:
                self.message_user(request, f"{task.public_id}: {error.message}", messages.WARNING)
        self.message_user(request, f"{made} new task(s) queued for the same users.")

    @admin.action(description="Set priority to P0 (urgent)", permissions=["operate"])
    def to_p0(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._set_priority(request, queryset, 0)

    @admin.action(description="Set priority to P1 (paid)", permissions=["operate"])
    def to_p1(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._set_priority(request, queryset, 1)

    @admin.action(description="Set priority to P2 (normal)", permissions=["operate"])
    def to_p2(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._set_priority(request, queryset, 2)

    @admin.action(description="Set priority to P3 (test)", permissions=["operate"])
    def to_p3(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        self._set_priority(request, queryset, 3)

    def _set_priority(self, request: HttpRequest, queryset: QuerySet[Task], priority: int) -> None:
        """Oldest first: that order is kept in the new priority."""
        moved = 0
        try:
            for task in queryset.order_by("id")[:MOST_AT_ONCE]:
                moved += set_priority(task, priority)
        except RedisError:
            self.message_user(request, "Redis is unreachable. The other tasks keep their priority.", messages.ERROR)
        self.message_user(request, f"{moved} queued task(s) set to P{priority}.")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("generation.change_task")


def _thumbnail(image: Image, side: int) -> SafeString:
    return format_html(
        '<a href="{}"><img src="{}" alt="" style="max-width:{}px;max-height:{}px;border-radius:4px"></a>',
        original_url(image, ""),
        image_url(image.thumbnail_key, ""),
        side,
        side,
    )


def _event_text(entry: dict[str, Any]) -> str:
    """One entry of a task's history as a line of text."""
    rest = [f"{name} {value}" for name, value in entry.items() if name not in ("at", "to")]
    return ", ".join([entry.get("to", ""), *rest]).strip(", ")

"""Tasks: list with thumbnails, filters and search; all that happened to one; cancel and re-prioritise."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline

from generation import services
from generation.models import Delivery, Image, Status, Task
from generation.representation import image_url, original_url
from generation.uuid7 import floor, from_public

LISTED_DAYS = 90
_COUNTED = 10_000  # rows counted at most: a count over the whole table would read every partition


class CappedPaginator(Paginator):
    """Counts no further than _COUNTED: lists stay fast however many tasks there are."""

    @cached_property
    def count(self) -> int:
        rows = cast(QuerySet, self.object_list)
        return len(rows[:_COUNTED].values_list("pk"))


class DayFilter(admin.SimpleListFilter):
    """Created today, yesterday or in the last week, as a range of ids: only those days' partitions are read."""

    title = "created"
    parameter_name = "created"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("0", "today"), ("1", "since yesterday"), ("7", "last 7 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        days = self.value()
        if days not in ("0", "1", "7"):
            return queryset
        return queryset.filter(id__gte=floor(datetime.now(UTC).date() - timedelta(days=int(days))))


class ReadOnly:
    """Rows of the task's way are made and moved by the product alone."""

    def has_add_permission(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def has_change_permission(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def has_delete_permission(self, *args: Any, **kwargs: Any) -> bool:
        return False


class ImageInline(ReadOnly, TabularInline):
    model = Image
    fields = ("index", "picture", "seed", "width", "height", "format", "bytes", "sha256")
    readonly_fields = fields
    extra = 0

    @admin.display(description="picture")
    def picture(self, image: Image) -> SafeString:
        return _thumbnail(image, 192)


class DeliveryInline(ReadOnly, TabularInline):
    model = Delivery
    fields = ("event_type", "url", "state", "attempts", "response_status", "next_at", "delivered_at")
    readonly_fields = fields
    extra = 0


@admin.register(Task)
class TaskAdmin(ReadOnly, ModelAdmin):
    """The task as it stands. What can be changed is done by actions, which go through the same functions as the API."""

    list_display = (
        "thumbnail",
        "public_id",
        "state",
        "short_text",
        "user",
        "model_key",
        "size",
        "class_",
        "created_at",
    )
    list_display_links = ("public_id",)
    list_filter = (DayFilter, "status", "kind", "priority", "model", "style")
    list_select_related = ("user", "model")
    list_per_page = 50
    search_fields = ("text", "user__username")
    search_help_text = "A task id, words of the prompt, or a user's name."
    show_full_result_count = False
    paginator = CappedPaginator
    ordering = ("-id",)
    actions = ("cancel_tasks",)
    inlines = (ImageInline, DeliveryInline)
    fieldsets = (
        (None, {"fields": ("public_id", "state", "progress", "user", "api_key", "priority", "warnings", "error")}),
        ("Request", {"fields": ("kind", "text", "model_key", "style", "size", "parameters", "callback_url")}),
        ("Way", {"fields": ("attempt", "worker", "stage_owner", "stage_attempts", "events")}),
        ("Times", {"fields": ("created_at", "expires_at", "started_at", "generated_at", "stored_at", "finished_at")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        """Tasks of the days that are kept; bounded on both sides, so that the DEFAULT partition is not read."""
        today = datetime.now(UTC).date()
        days = floor(today - timedelta(days=LISTED_DAYS)), floor(today + timedelta(days=1))
        return super().get_queryset(request).filter(id__gte=days[0], id__lt=days[1]).prefetch_related("images")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, term: str) -> tuple[QuerySet, bool]:
        """A task id finds its row by primary key; other words are looked for in prompts and user names."""
        task_id = from_public(term.strip())
        if task_id:
            return Task.objects.filter(pk=task_id), False
        return super().get_search_results(request, queryset, term)

    @admin.display(description="")
    def thumbnail(self, task: Task) -> SafeString | str:
        images = [image for image in task.images.all() if image.index == 0]
        return _thumbnail(images[0], 64) if images and task.status == Status.SUCCEEDED else ""

    @admin.display(description="status", ordering="status")
    def state(self, task: Task) -> str:
        return f"{task.status} {task.progress} %" if task.status == Status.RUNNING else task.status

    @admin.display(description="text")
    def short_text(self, task: Task) -> str:
        return task.text if len(task.text) <= 60 else task.text[:59] + "…"

    @admin.display(description="size")
    def size(self, task: Task) -> str:
        return f"{task.width}x{task.height}"

    @admin.display(description="class", ordering="priority")
    def class_(self, task: Task) -> str:
        return f"P{task.priority}"

    @admin.display(description="error")
    def error(self, task: Task) -> str:
        return f"{task.error_code}: {task.error_message}" if task.error_code else "-"

    @admin.display(description="parameters")
    def parameters(self, task: Task) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(task.params, ensure_ascii=False, indent=2))

    @admin.display(description="what happened")
    def events(self, task: Task) -> SafeString:
        rows = ((entry.get("at", ""), _told(entry)) for entry in task.history)
        return format_html("<ol>{}</ol>", format_html_join("", "<li><code>{}</code> {}</li>", rows))

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel_tasks(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        ended = [services.cancel_task(task) for task in queryset if not task.terminal]
        self.message_user(request, f"{len(ended)} task(s) cancelled, or stopping at their next step.")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Staff with the permission to change tasks."""
        return request.user.has_perm("generation.change_task")


def _thumbnail(image: Image, side: int) -> SafeString:
    return format_html(
        '<a href="{}"><img src="{}" alt="" style="max-width:{}px;max-height:{}px;border-radius:4px"></a>',
        original_url(image, ""),
        image_url(image.thumbnail_key, ""),
        side,
        side,
    )


def _told(entry: dict[str, Any]) -> str:
    """One history entry as a line for people."""
    rest = [f"{name} {value}" for name, value in entry.items() if name not in ("at", "to")]
    return ", ".join([entry.get("to", ""), *rest]).strip(", ")

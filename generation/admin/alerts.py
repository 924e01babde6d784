"""Alerts of lost workers and devices."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin

from generation.admin.base import ReadOnlyMixin
from generation.telemetry.models import Alert


@admin.register(Alert)
class AlertAdmin(ReadOnlyMixin, ModelAdmin):
    """A worker that works again clears its alerts itself. Those of a removed worker are cleared here."""

    list_display = ("worker", "kind", "message", "raised_at", "cleared_at")
    list_filter = ("kind", ("cleared_at", admin.EmptyFieldListFilter))
    search_fields = ("worker", "message")
    actions = ("clear",)

    @admin.action(description="Clear (the worker will not come back)", permissions=["clear"])
    def clear(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        count = queryset.filter(cleared_at=None).update(cleared_at=timezone.now())
        self.message_user(request, f"{count} alert(s) cleared.")

    def has_clear_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("generation.change_alert")

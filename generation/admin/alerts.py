"""Alerts of lost workers and devices."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from redis.exceptions import RedisError

from generation.admin.base import ReadOnlyMixin, StaffAdmin
from generation.telemetry import alerts
from generation.telemetry.models import Alert


@admin.register(Alert)
class AlertAdmin(ReadOnlyMixin, StaffAdmin):
    """A pool that is whole again clears its alerts itself. Those of a removed worker are cleared here."""

    list_display = ("worker", "pool", "kind", "message", "raised_at", "cleared_at")
    list_filter = ("kind", "pool", ("cleared_at", admin.EmptyFieldListFilter))
    search_fields = ("worker", "pool", "message")
    actions = ("clear",)

    @admin.action(description="Clear (the worker will not come back)", permissions=["clear"])
    def clear(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        try:
            count = alerts.clear(list(queryset))
        except RedisError as error:
            self.message_user(request, f"Redis is out of reach, nothing is cleared: {error}", messages.ERROR)
            return
        self.message_user(request, f"{count} alert(s) cleared.")

    def has_clear_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("generation.change_alert")

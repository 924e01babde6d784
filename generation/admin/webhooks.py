"""Webhook endpoints and the log of their deliveries."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from generation.admin.base import CappedPaginator, ReadOnlyMixin, StaffAdmin, choice_filter
from generation.webhooks.events import EVENTS
from generation.webhooks.models import Delivery, WebhookEndpoint


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(StaffAdmin):
    list_display = ("__str__", "user", "events", "disabled_at", "disabled_reason")
    search_fields = ("url", "user__username")
    exclude = ("secret", "previous_secret")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyMixin, StaffAdmin):
    list_display = ("event_type", "task", "url", "state", "attempts", "response_status", "next_at", "delivered_at")
    list_filter = ("state", choice_filter("event_type", lambda: [(event, event) for event in EVENTS]))
    list_select_related = ("task",)
    ordering = ("-id",)
    sortable_by = ()
    show_full_result_count = False
    paginator = CappedPaginator
    actions = ("send_again",)

    @admin.action(description="Send again", permissions=["send"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        count = queryset.update(state=Delivery.State.PENDING, next_at=timezone.now())
        self.message_user(request, f"{count} delivery attempt(s) scheduled.")

    def has_send_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("generation.change_delivery")

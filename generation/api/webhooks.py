"""Webhook endpoints, their secrets, and the log of deliveries."""

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final, TypedDict

from django.db import IntegrityError, transaction
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.api.openapi.fields import AddressField
from generation.api.requests.choices import OneOf
from generation.api.requests.idempotency import PARAMETER, once
from generation.api.validation import StrictSerializer, checked
from generation.tasks.presentation import Moment
from generation.webhooks.events import EVENTS
from generation.webhooks.models import Delivery, WebhookEndpoint, new_secret
from imagegenx_site.errors import Conflict, Fault, Forbidden, InvalidRequest, NotFound
from imagegenx_site.http.outbound import callback_problem
from imagegenx_site.ids import first_id_of

MAX_ENDPOINTS: Final = 20
_LISTED_DAYS: Final = 30


class EndpointSerializer(StrictSerializer):
    """An address that gets task events."""

    url = AddressField()
    events = serializers.ListField(child=OneOf(EVENTS), required=False, default=list, help_text="Empty: all.")

    def validate_url(self, url: str) -> str:
        fault = callback_problem(url, self.context["host"])
        if fault:
            raise serializers.ValidationError(f"This address can't be called: {fault}.", "malformed")
        return url


class ChangeSerializer(StrictSerializer):
    """Which events, and whether it is to be called."""

    events = serializers.ListField(child=OneOf(EVENTS), required=False)
    enabled = serializers.BooleanField(required=False)


class EndpointBody(TypedDict):
    id: int
    url: Annotated[str, "Empty: the endpoint of requests' `callback_url`."]
    events: list[str]
    enabled: bool
    disabled_reason: str
    created_at: Moment


class SecretBody(EndpointBody):
    secret: Annotated[str, "Signs what is sent."]


class EndpointsBody(TypedDict):
    items: list[EndpointBody]
    callbacks: SecretBody


class DeletedEndpointBody(TypedDict):
    id: int
    deleted: bool


class AttemptBody(TypedDict):
    at: Moment
    status: Annotated[int | None, "Of the receiver's answer; null: there was none."]
    fault: Annotated[str, "Empty: it arrived."]


class DeliveryBody(TypedDict):
    id: str
    event_id: str
    type: str
    url: str
    state: str
    attempts: list[AttemptBody]
    next_at: Moment | None
    delivered_at: Moment | None


class EndpointsView(ApiView):
    """The caller's webhook endpoints."""

    scopes: ClassVar = {"GET": "webhooks", "POST": "webhooks"}

    @extend_schema(**openapi_docs.operation("webhooks", "List webhook endpoints", "webhooks", data=EndpointsBody))
    def get(self, request: KeyRequest) -> Response:
        """The endpoints, and the default whose secret signs what goes to a request's `callback_url`."""
        default, _ = WebhookEndpoint.objects.get_or_create(user=request.user, url="")
        rows = WebhookEndpoint.objects.filter(user=request.user).exclude(url="").order_by("id")
        callbacks = {**endpoint_body(default), "secret": default.secret}
        return Response({"items": [endpoint_body(row) for row in rows], "callbacks": callbacks})

    @extend_schema(
        **openapi_docs.operation(
            "webhook-create",
            "Add a webhook endpoint",
            "webhooks",
            data=SecretBody,
            code=201,
            also=(409, 422),
            request=EndpointSerializer,
            parameters=[PARAMETER],
        )
    )
    def post(self, request: KeyRequest) -> Response:
        """A new endpoint; its secret is in the answer."""
        asked = checked(EndpointSerializer, request.data, host=request.get_host())
        return once(request, "webhooks", request.data, lambda: self._create(request, asked))

    def _create(self, request: KeyRequest, asked: dict[str, Any]) -> Response:
        if WebhookEndpoint.objects.filter(user=request.user).count() > MAX_ENDPOINTS:
            raise Forbidden(f"A user has at most {MAX_ENDPOINTS} endpoints. Delete one first.")
        try:
            with transaction.atomic():
                row = WebhookEndpoint.objects.create(user=request.user, **asked)
        except IntegrityError as error:
            raise Conflict("You have an endpoint with this address.") from error
        return Response({**endpoint_body(row), "secret": row.secret}, status=201)


class EndpointView(ApiView):
    """One endpoint."""

    scopes: ClassVar = {"PATCH": "webhooks", "DELETE": "webhooks"}

    @extend_schema(
        **openapi_docs.operation(
            "webhook-change", "Change an endpoint", "webhooks", data=EndpointBody, also=(404,), request=ChangeSerializer
        )
    )
    def patch(self, request: KeyRequest, pk: int) -> Response:
        """Choose its events; switch it off, or on again after it was disabled."""
        row, asked = _find(request, pk), checked(ChangeSerializer, request.data)
        if "events" in asked:
            row.events = asked["events"]
        if "enabled" in asked:
            row.disabled_at = None if asked["enabled"] else timezone.now()
            row.disabled_reason = "" if asked["enabled"] else "switched off"
            row.given_up = 0
        _save(row, "events", "disabled_at", "disabled_reason", "given_up")
        return Response(endpoint_body(row))

    @extend_schema(
        **openapi_docs.operation(
            "webhook-delete", "Delete an endpoint", "webhooks", data=DeletedEndpointBody, also=(404,)
        )
    )
    def delete(self, request: KeyRequest, pk: int) -> Response:
        """Delete it, and the log of its deliveries."""
        _find(request, pk).delete()
        return Response({"id": pk, "deleted": True})


class RotateSecretView(ApiView):
    """A new secret."""

    scopes: ClassVar = {"POST": "webhooks"}

    @extend_schema(
        **openapi_docs.operation(
            "webhook-rotate",
            "Rotate a secret",
            "webhooks",
            data=SecretBody,
            also=(404, 409, 422),
            request=None,
            parameters=[PARAMETER],
        )
    )
    def post(self, request: KeyRequest, pk: int) -> Response:
        """A new secret. The one before signs beside it until the next rotation."""
        row = _find(request, pk, default=True)

        def make() -> Response:
            with transaction.atomic():  # of two at once each gets a secret that signs
                now = WebhookEndpoint.objects.select_for_update().filter(pk=row.pk).first() or row
                now.previous_secret, now.secret = now.secret, new_secret()
                _save(now, "secret", "previous_secret")
            return Response({**endpoint_body(now), "secret": now.secret})

        return once(request, "webhooks/rotate", {"endpoint": pk}, make)


class DeliveriesView(ApiView):
    """The log."""

    scopes: ClassVar = {"GET": "webhooks"}

    @extend_schema(
        **openapi_docs.operation(
            "deliveries", "List deliveries", "webhooks", data=openapi_docs.listed(DeliveryBody), also=(404,)
        )
    )
    def get(self, request: KeyRequest, pk: int) -> Response:
        """The newest 100 events for this endpoint, with every attempt."""
        since = first_id_of(timezone.now() - timedelta(days=_LISTED_DAYS))
        rows = Delivery.objects.filter(endpoint=_find(request, pk, default=True), id__gte=since)
        return Response({"items": [delivery_body(row) for row in rows.order_by("-id")[:100]]})


class RedeliverView(ApiView):
    """Send again."""

    scopes: ClassVar = {"POST": "webhooks"}

    @extend_schema(
        **openapi_docs.operation(
            "redeliver", "Send a delivery again", "webhooks", data=DeliveryBody, also=(404, 409), request=None
        )
    )
    def post(self, request: KeyRequest, delivery_id: str) -> Response:
        """Send an event again, with the same `webhook-id`. It leaves within seconds."""
        row = Delivery.objects.filter(pk=delivery_id, endpoint__user=request.user).select_related("endpoint").first()
        if row is None:
            raise NotFound("You have no such delivery.")
        if row.endpoint.disabled_at:
            raise Conflict("The endpoint is disabled. Enable it first.")
        row.state, row.next_at, row.attempts = Delivery.State.PENDING, timezone.now(), 0
        changes = {"state": row.state, "next_at": row.next_at, "attempts": row.attempts}
        if not Delivery.objects.filter(pk=row.pk).update(**changes):
            raise NotFound("You have no such delivery.")
        return Response(delivery_body(row))


def endpoint_body(row: WebhookEndpoint) -> EndpointBody:
    """An endpoint without its secret."""
    return {
        "id": row.pk,
        "url": row.url,
        "events": row.events or list(EVENTS),
        "enabled": row.disabled_at is None,
        "disabled_reason": row.disabled_reason,
        "created_at": row.created_at.isoformat(timespec="seconds"),
    }


def delivery_body(row: Delivery) -> DeliveryBody:
    """A delivery and its attempts."""
    return {
        "id": str(row.pk),
        "event_id": row.event_id,
        "type": row.event_type,
        "url": row.url,
        "state": row.state,
        "attempts": row.log,
        "next_at": row.next_at.isoformat(timespec="seconds") if row.state == Delivery.State.PENDING else None,
        "delivered_at": row.delivered_at.isoformat(timespec="seconds") if row.delivered_at else None,
    }


def _find(request: KeyRequest, pk: int, *, default: bool = False) -> WebhookEndpoint:
    """The caller's endpoint; the one of callbacks only when `default`."""
    row = WebhookEndpoint.objects.filter(pk=pk, user=request.user).first() if pk < 2**63 else None
    if row is None:
        raise _not_found()
    if not row.url and not default:
        raise InvalidRequest([Fault("id", "not_allowed", "The endpoint of callbacks can't be changed or deleted.")])
    return row


def _save(row: WebhookEndpoint, *fields: str) -> None:
    """Raises NotFound when it was deleted meanwhile."""
    if not WebhookEndpoint.objects.filter(pk=row.pk).update(**{name: getattr(row, name) for name in fields}):
        raise _not_found()


def _not_found() -> NotFound:
    return NotFound("You have no such webhook endpoint.")

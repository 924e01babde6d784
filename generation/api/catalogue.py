"""What can be asked for: models, styles, plans."""

from typing import Any

from django.forms.models import model_to_dict
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from generation.accounts.models import Plan
from generation.accounts.plans import plan_of
from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel, Style

_MODEL_FIELDS = (
    "name",
    "title",
    "family",
    "kinds",
    "control_types",
    "aliases",
    "min_side",
    "max_side",
    "default_width",
    "default_height",
    "default_steps",
    "max_steps",
    "default_cfg_scale",
    "default_sampler",
)


class ModelsView(ApiView):
    """The models."""

    @extend_schema(
        **openapi_docs.operation("models", "List models", "catalogue", data=openapi_docs.listed(openapi_docs.OBJECT))
    )
    def get(self, request: KeyRequest) -> Response:
        """The enabled models; the first that can do a kind is its default."""
        return Response({"items": [_model(model) for model in snapshot.current().models]})


class StylesView(ApiView):
    """The styles."""

    @extend_schema(
        **openapi_docs.operation("styles", "List styles", "catalogue", data=openapi_docs.listed(openapi_docs.OBJECT))
    )
    def get(self, request: KeyRequest) -> Response:
        """The enabled styles, with the words that they add."""
        return Response({"items": [_style(style) for style in snapshot.current().styles]})


class PlansView(ApiView):
    """The plans."""

    @extend_schema(
        **openapi_docs.operation(
            "plans", "List plans, and which is yours", "catalogue", data=openapi_docs.listed(openapi_docs.OBJECT)
        )
    )
    def get(self, request: KeyRequest) -> Response:
        """Every plan with its limits; `current` is the one that binds this key."""
        plans = [model_to_dict(plan, exclude=["id"]) for plan in Plan.objects.order_by("paid", "name")]
        return Response({"items": plans, "current": plan_of(request.auth).name})


def _model(model: ImageModel) -> dict[str, Any]:
    shown = {name: getattr(model, name) for name in _MODEL_FIELDS}
    return {**shown, "revision": model.revision, "fallback": model.fallback_id and _name_of(model.fallback_id)}


def _name_of(pk: int) -> str | None:
    """The name of an enabled model."""
    return next((model.name for model in snapshot.current().models if model.pk == pk), None)


def _style(style: Style) -> dict[str, Any]:
    names = ("name", "title", "title_zh", "prompt", "negative_prompt", "tone", "child_safe")
    return {name: getattr(style, name) for name in names}

"""Models, styles and plans."""

from typing import Annotated, Any, TypedDict, cast

from django.forms.models import model_to_dict
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from generation.accounts.models import Plan
from generation.accounts.plans import plan_of
from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.catalogue import request_warnings, samplers, snapshot
from generation.catalogue.models import ImageModel, Style


class ModelBody(TypedDict):
    name: str
    title: str
    family: str
    kinds: list[str]
    control_types: list[str]
    aliases: list[str]
    min_side: int
    max_side: int
    default_width: int
    default_height: int
    default_steps: int
    max_steps: int
    default_cfg_scale: float
    default_sampler: str
    samplers: Annotated[list[str], "All that a request may name."]
    words: Annotated[list[str] | None, "The English words that it knows; null: too many to name."]
    revision: str
    fallback: Annotated[str | None, "The model that takes over when this one fails."]


class StyleBody(TypedDict):
    name: str
    title: str
    title_zh: str
    prompt: str
    negative_prompt: str
    tone: dict[str, Any]
    child_safe: bool


class PlanBody(TypedDict):
    """A plan's limits: 0 allows nothing, null is unlimited."""

    name: str
    title: str
    paid: bool
    max_side: int
    max_images: int
    kinds: list[str]
    super_resolution: bool
    watermark: dict[str, Any] | None
    lora_upload: bool
    priority_cap: int
    priority_default: int
    requests_per_second: int
    concurrent_tasks: int | None
    daily_images: int | None
    daily_megapixel_steps: int | None
    queue_seconds: Annotated[int, "How long a task may wait before it expires."]


class PlansBody(TypedDict):
    items: list[PlanBody]
    current: Annotated[str, "The plan that binds this key."]


class ModelsView(ApiView):
    """The models."""

    @extend_schema(**openapi_docs.operation("models", "List models", "catalogue", data=openapi_docs.listed(ModelBody)))
    def get(self, request: KeyRequest) -> Response:
        """The enabled models that the key may use; the first that can do a kind is its default."""
        known = snapshot.current().usable_by(plan_of(request.auth), request.user.team_id)
        return Response({"items": [_model(model) for model in known.models]})


class StylesView(ApiView):
    """The styles."""

    @extend_schema(**openapi_docs.operation("styles", "List styles", "catalogue", data=openapi_docs.listed(StyleBody)))
    def get(self, request: KeyRequest) -> Response:
        """The enabled styles, with the words that they add."""
        return Response({"items": [_style(style) for style in snapshot.current().styles]})


class PlansView(ApiView):
    """The plans."""

    @extend_schema(**openapi_docs.operation("plans", "List plans, and which is yours", "catalogue", data=PlansBody))
    def get(self, request: KeyRequest) -> Response:
        """Every plan with its limits; `current` is the one that binds this key."""
        plans = [model_to_dict(plan, exclude=["id"]) for plan in Plan.objects.order_by("paid", "name")]
        return Response({"items": plans, "current": plan_of(request.auth).name})


def _model(model: ImageModel) -> ModelBody:
    made = {
        "samplers": list(samplers.NAMES),
        "words": sorted(request_warnings.known_words(model)) or None,
        "fallback": model.fallback_id and _name_of(model.fallback_id),
    }
    shown = {name: getattr(model, name) for name in ModelBody.__annotations__ if name not in made}
    return cast(ModelBody, {**shown, **made})


def _name_of(pk: int) -> str | None:
    """The name of an enabled model."""
    return next((model.name for model in snapshot.current().models if model.pk == pk), None)


def _style(style: Style) -> StyleBody:
    return cast(StyleBody, {name: getattr(style, name) for name in StyleBody.__annotations__})

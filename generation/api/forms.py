"""Request bodies: one schema for validation, the OpenAPI document and the texts of faults.

A field's checks against the catalogue and the plan run with the field itself, so that one answer names every fault at
once.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from generation.accounts import plans
from generation.accounts.models import Plan, User
from generation.api.openapi.fields import AddressField, ResolutionField
from generation.api.requests import spellings
from generation.api.requests.choices import OneOf
from generation.api.validation import NumberField, StrictSerializer, validated
from generation.catalogue import loras, samplers
from generation.catalogue.kinds import needs_model
from generation.catalogue.models import ImageModel, Style
from generation.catalogue.parameters import MAX_SEED, SIDE_STEP, SIDES, LoraChoice, parse_resolution
from generation.catalogue.presets import registry
from generation.catalogue.snapshot import Catalogue
from generation.tasks.presentation import block_schema
from imagegenx_site.errors import Fault, InvalidRequest
from imagegenx_site.http.outbound import callback_problem
from postprocessing.recipe import FORMATS, Recipe, RecipeError

MAX_TEXT: Final = 10_000  # characters of a prompt
LORAS_HELP: Final = 'Up to three: ["ink", {"name": "ink@2", "weight": 0.8}]; see /api/v1/lora.'


@extend_schema_field({**loras.list_of(loras.ENTRY).json_schema(), "description": LORAS_HELP})
class LorasField(serializers.JSONField):
    """Checked by the schema it shows."""


@extend_schema_field(block_schema())
class PostprocessField(serializers.JSONField):
    """Checked by the schema it shows."""


class SamplerField(serializers.ChoiceField):
    """A sampler, in the spelling of any of the programs that have it."""

    def to_internal_value(self, data: Any) -> str:
        found = samplers.find(data) if isinstance(data, str) else None
        if not data or found is None:
            raise _fault("not_allowed", f"There is no such sampler. {samplers.known()}")
        return found


class BlockParams(StrictSerializer):
    """What `params` of every kind have: what is done to a finished picture."""

    saturation = NumberField(required=False, min_value=0.5, max_value=2.0)
    format = OneOf(FORMATS, also=spellings.FORMATS, required=False)
    postprocess = PostprocessField(required=False)

    def validate_postprocess(self, block: Any) -> Any:
        try:
            recipe = Recipe.from_json(block, path="params.postprocess")
        except RecipeError as error:
            self.context["faults"].extend(error.faults)
            return {}
        _check_plan(self.context, upscale=recipe.upscale is not None)
        if recipe.output.provenance and not settings.C2PA_CERTIFICATE:
            raise _fault("not_available", "This server has no certificate to sign with; leave `provenance` out.")
        return block or {}

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        """What stands beside the postprocess block is part of it; together they may still contradict each other."""
        block = {name: values[name] for name in ("format", "saturation") if name in values}
        block |= values.get("postprocess", {})
        try:
            Recipe.from_json(block, path="params.postprocess")
        except RecipeError as error:
            self.context["faults"].extend(error.faults)
        return {**values, "postprocess": block}


class ParamsSerializer(BlockParams):
    """`params` of a text-to-image request. Defaults come from the model and the plan."""

    resolution = ResolutionField(
        required=False, help_text="Width x height in pixels, multiples of 8, such as `512x512`."
    )
    model = serializers.CharField(
        required=False, max_length=60, help_text="Name or alias of a model; see /api/v1/models."
    )
    style = serializers.CharField(  # type: ignore[assignment]  # a field called as DRF calls something else
        required=False, max_length=50, allow_blank=True, help_text="Name of a style; see /api/v1/styles."
    )
    style_keywords = serializers.ListField(
        child=serializers.CharField(max_length=60),
        required=False,
        max_length=10,
        help_text="Keywords that are added to the prompt.",
    )
    negative_text = serializers.CharField(
        required=False, max_length=MAX_TEXT, allow_blank=True, help_text="Negative prompt: what should not appear."
    )
    steps = serializers.IntegerField(required=False, min_value=1, max_value=100, help_text="Number of denoising steps.")
    cfg_scale = NumberField(
        required=False, min_value=1, max_value=20, help_text="Guidance scale: how closely the image follows the prompt."
    )
    sampler = SamplerField(choices=samplers.NAMES, required=False, help_text="Other programs' names are read, too.")
    seed = serializers.IntegerField(
        required=False, min_value=-1, max_value=MAX_SEED, help_text="The same seed gives the same image. -1: random."
    )
    num_images = serializers.IntegerField(required=False, min_value=1, max_value=16)
    deterministic = serializers.BooleanField(
        required=False, help_text="Run in a batch of one: bit-identical images on one machine, slower."
    )
    cache = serializers.BooleanField(
        required=False,
        help_text="False: generate again, even if an identical request with the same `seed` has a result.",
    )
    loras = LorasField(required=False)
    preview = serializers.BooleanField(required=False, help_text="Send small preview images in the event stream.")

    def validate_loras(self, asked: Any) -> tuple[LoraChoice, ...]:
        entry = loras.VersionField(self.context["user"], self.context["model"], self.context["plan"])
        return loras.list_of(entry).read(asked, "params.loras", self.context["faults"]) or ()

    def validate_model(self, name: str) -> str:
        catalogue: Catalogue = self.context["catalogue"]
        model = catalogue.model(name)
        if model is None:
            raise _fault("unknown_model", _unknown_model(name, catalogue))
        if self.context["kind"] not in model.kinds:
            raise _fault(
                "kind_not_supported",
                f"{model.name} can't do {self.context['kind']}. It can do {', '.join(model.kinds)}.",
            )
        return name

    def validate_style(self, name: str) -> str:
        catalogue: Catalogue = self.context["catalogue"]
        style = catalogue.style_named(name) if name else None
        if name and style is None:
            near = difflib.get_close_matches(name, catalogue.style_names(), n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            known = ", ".join(catalogue.style_names())
            raise _fault("unknown_style", f"There is no style {name!r}.{hint} Known: {known}.")
        return style.name if style else ""

    def validate_resolution(self, text: str) -> tuple[int, int]:
        sides = parse_resolution(text)
        if sides is None:
            raise _fault("malformed", "Write width x height in pixels, for example 512x512.")
        model: ImageModel | None = self.context["model"]
        low, high = (model.min_side, model.max_side) if model else SIDES
        if any(side % SIDE_STEP for side in sides):
            raise _fault("not_a_multiple", f"Width and height must be multiples of {SIDE_STEP}.")
        if min(sides) < low or max(sides) > high:
            raise _fault("out_of_range", f"Width and height must be from {low} to {high} pixels.")
        _check_plan(self.context, sides=sides)
        return sides

    def validate_steps(self, steps: int) -> int:
        model: ImageModel | None = self.context["model"]
        if model and steps > model.max_steps:
            raise _fault("out_of_range", f"{model.name} takes up to {model.max_steps} steps.")
        return steps

    def validate_num_images(self, count: int) -> int:
        _check_plan(self.context, images=count)
        return count


class RequestSerializer(StrictSerializer):
    """What the requests of every kind have."""

    callback_url = AddressField(
        required=False, allow_null=True, allow_blank=True, help_text="URL for a signed webhook."
    )
    priority = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=3, help_text="0 (urgent) to 3 (test)."
    )

    deadline_seconds = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=86400,
        help_text="The task expires if it has not started after so many seconds. Like the header `Cancel-After: 30s`.",
    )
    dry_run = serializers.BooleanField(required=False, help_text="Return the price without creating a task.")

    def validate_callback_url(self, url: str | None) -> str:
        fault = callback_problem(url, self.context["host"]) if url else None
        if fault:
            raise _fault("malformed", f"This address can't be called: {fault}.")
        return url or ""

    def validate_priority(self, priority: int | None) -> int | None:
        _check_plan(self.context, priority=priority)
        return priority


class GenerateSerializer(RequestSerializer):
    """What the requests of every kind that draws have."""

    text = serializers.CharField(max_length=MAX_TEXT, help_text="The prompt, in any language.")
    params = ParamsSerializer(required=False)


@dataclass(frozen=True)
class RequestContext:
    """What a request is checked against: its kind, who sends it under which plan, and what there is to ask for."""

    kind: str
    user: User
    plan: Plan
    catalogue: Catalogue
    host: str = ""


def parse(
    body: Any, form: type[RequestSerializer], context: RequestContext, found: Sequence[Fault] = ()
) -> dict[str, Any]:
    """The checked values of a request body, with its `model`: None where the kind needs none. Raises InvalidRequest
    with every fault, those `found` before among them.
    """
    kind, catalogue = context.kind, context.catalogue
    params = body.get("params") if isinstance(body, Mapping) else None
    named = params.get("model") if isinstance(params, Mapping) else None
    model = catalogue.model(named) if isinstance(named, str) else catalogue.default_model(kind)
    found = [*found, *plans.faults(context.plan, kind=kind)]
    if not needs_model(kind):
        model = None
    elif model is None and named is None:
        found.append(Fault("params.model", "unknown_model", "No model is enabled that can do this. Ask the operator."))
    values, faults = validated(form, body, {**vars(context), "model": model, "faults": found})
    if found or faults:
        raise InvalidRequest([*found, *faults])
    return {**values, "model": model}


def _unknown_model(name: str, catalogue: Catalogue) -> str:
    known = f"Known: {', '.join(catalogue.model_names())}."
    return f"{registry.how_to_get(name) or f'There is no model {name!r}.'} {known}"


def style_of(catalogue: Catalogue, params: Mapping[str, Any]) -> Style | None:
    """The style that a checked request names."""
    return catalogue.style(params["style"]) if params.get("style") else None


def _check_plan(context: Mapping[str, Any], **asked: Any) -> None:
    """Refuse a field's value that the plan does not allow."""
    for fault in plans.faults(context["plan"], **asked):
        raise _fault(fault.code, fault.message)


def _fault(code: str, message: str) -> serializers.ValidationError:
    return serializers.ValidationError(message, code=code)

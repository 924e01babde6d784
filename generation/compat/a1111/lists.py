"""Lists and settings that A1111's programs read, mostly at their start."""

from typing import Any, ClassVar, Final

from rest_framework.response import Response

from generation.api.authentication import KeyRequest
from generation.catalogue import loras
from generation.catalogue.kinds import CONTROL_TYPES, of_pictures
from generation.catalogue.models import Lora
from generation.catalogue.samplers import SAMPLERS
from generation.compat.a1111 import choice, controlnet, form, hires
from generation.compat.a1111.views import SdapiView, object_of
from generation.compat.base import catalogue_of

# What programs ask for at their start, and what there is of it here. The last four are of the ControlNet extension.
_UPSCALER: Final = {"model_path": None, "model_url": None}
_FIXED: Final[dict[str, Any]] = {
    "sdapi/v1/upscalers": [
        {"name": "None", "model_name": None, "scale": 1, **_UPSCALER},
        {"name": hires.UPSCALER, "model_name": None, "scale": 4, **_UPSCALER},
    ],
    "sdapi/v1/latent-upscale-modes": [],
    "sdapi/v1/sd-vae": [],
    "sdapi/v1/sd-modules": [],
    "sdapi/v1/hypernetworks": [],
    "sdapi/v1/face-restorers": [],
    "sdapi/v1/realesrgan-models": [],
    "sdapi/v1/extensions": [],
    "sdapi/v1/script-info": [],
    "sdapi/v1/embeddings": {"loaded": {}, "skipped": {}},
    "sdapi/v1/scripts": {"txt2img": [], "img2img": []},
    "sdapi/v1/cmd-flags": {},
    "sdapi/v1/memory": {"ram": {}, "cuda": {}},
    "sdapi/v1/schedulers": [{"name": name, "label": name.capitalize()} for name in ("automatic", "karras")],
    "controlnet/version": {"version": 2},
    "controlnet/settings": {"control_net_unit_count": 1},
    "controlnet/module_list": {
        "module_list": list(controlnet.MODULES),
        "module_detail": {name: {"model_free": False, "sliders": []} for name in controlnet.MODULES},
    },
}
# What is always up to date here, or always loaded.
REFRESHED: Final = tuple(
    f"sdapi/v1/{name}"
    for name in ("refresh-checkpoints", "refresh-vae", "refresh-loras", "unload-checkpoint", "reload-checkpoint")
)


class OptionsView(SdapiView):
    """The settings that programs read and write: of them, the model."""

    scopes: ClassVar = {"GET": "read", "POST": "generate"}

    def get(self, request: KeyRequest) -> Response:
        """The model that the key's next picture is made with."""
        model = form.model_titled(catalogue_of(request), choice.of_key(request), of_pictures(()).name)
        title = model.title if model else None
        return Response({"sd_model_checkpoint": title, "sd_vae": "Automatic", "CLIP_stop_at_last_layers": 1})

    def post(self, request: KeyRequest) -> Response:
        """Choose a model; everything else is taken and has no effect."""
        title = object_of(request).get("sd_model_checkpoint")
        if isinstance(title, str) and title:
            choice.keep(request, title)
        return Response({})


class SdModelsView(SdapiView):
    """The models."""

    def get(self, request: KeyRequest) -> Response:
        """Titles are what `options` and `override_settings` take."""
        found = catalogue_of(request).models
        return Response(
            [
                {"title": model.title, "model_name": model.name, "hash": None, "sha256": None, "filename": model.key,
                 "config": None}
                for model in found
            ]
        )  # fmt: skip


class SamplersView(SdapiView):
    """The samplers."""

    def get(self, request: KeyRequest) -> Response:
        """By the names that A1111 gives them."""
        found = SAMPLERS.values()
        return Response([{"name": one.a1111, "aliases": [one.name, *one.aliases], "options": {}} for one in found])


class SdLorasView(SdapiView):
    """The LoRAs that the key may use."""

    def get(self, request: KeyRequest) -> Response:
        """Names as `<lora:NAME:1>` in a prompt takes them."""
        visible = loras.visible(request.user, request.auth.effective_plan).filter(state=Lora.State.ACTIVE)
        rows = visible.order_by("name", "-version")[:1000]
        return Response(
            [{"name": str(row), "alias": row.title or row.name, "path": "", "metadata": {}} for row in rows]
        )


class PromptStylesView(SdapiView):
    """The styles."""

    def get(self, request: KeyRequest) -> Response:
        """Names as `styles` of a request takes them; what a style adds to a prompt is added here."""
        found = catalogue_of(request).styles
        return Response([{"name": one.name, "prompt": "", "negative_prompt": ""} for one in found])


class ControlModelsView(SdapiView):
    """What a ControlNet unit may name as its model."""

    def get(self, request: KeyRequest) -> Response:
        """The control types that some model has."""
        return Response({"model_list": _control_types(request)})


class ControlTypesView(SdapiView):
    """Modules and models, by what they are for."""

    def get(self, request: KeyRequest) -> Response:
        """As the ControlNet extension groups them."""
        every = {"module_list": list(controlnet.MODULES), "model_list": _control_types(request)}
        found = {"All": {**every, "default_option": "none", "default_model": "None"}}
        for name in _control_types(request):
            modules = [module for module, kind in controlnet.MODULES.items() if kind in ("", name)]
            found[name.capitalize()] = {
                "module_list": modules, "model_list": [name], "default_option": modules[-1], "default_model": name,
            }  # fmt: skip
        return Response({"control_types": found})


class RefreshView(SdapiView):
    """POSTs with which programs have A1111 look at its folders again."""

    scopes: ClassVar = {"POST": "read"}

    def post(self, request: KeyRequest) -> Response:
        """There is nothing to do: lists are read anew at each request."""
        return Response({})


class FixedView(SdapiView):
    """Lists that programs read at their start."""

    name: ClassVar[str] = ""

    def get(self, request: KeyRequest) -> Response:
        """What there is of it here."""
        return Response(_FIXED[self.name])


def _control_types(request: KeyRequest) -> list[str]:
    offered = {name for model in catalogue_of(request).models for name in model.control_types}
    return [name for name in CONTROL_TYPES if name in offered]


FIXED_PATHS: Final = tuple(_FIXED)

"""The kinds of task: one table. Forms, endpoints, the OpenAPI document, plans, answers, the admin's filters and the
engine's words are made of it, so a kind is added by an entry here (and a pipeline in workers/engine/models where its
forward pass is new).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from generation.catalogue.parameters import Parameters
from imagegenx_site.schema import Boolean, Choice, Field, Integer, List, Number

CONTROL_TYPES: Final = ("canny", "depth", "openpose", "tile")


@dataclass(frozen=True)
class Picture:
    """A picture of a request: `field` gives it, and it is stored under `{role}_key` of Parameters. `part_of` names the
    field without which it means nothing.
    """

    field: str
    role: str
    required: bool = True
    part_of: str = ""
    help: str = ""


@dataclass(frozen=True)
class Option:
    """A parameter that only some kinds have. `stored` is its name in Parameters, where its default stands too; it is
    empty for what is spent on the pictures. `above` names the option that it must exceed, `of_model` the model's list
    of what it may be (the first is its default), `draws` the role of the picture that it stands for.
    """

    name: str
    value: Field
    stored: str = ""
    above: str = ""
    of_model: str = ""
    draws: str = ""

    @property
    def default(self) -> Any:
        return getattr(Parameters, self.stored)


@dataclass(frozen=True, eq=False)  # by identity: forms are kept by kind, hashing one takes 7 µs
class Kind:
    """One kind. `path` is its endpoint below /api/v1/image/. `made_as`: it is only a door, its tasks are of that kind.
    `engine_kinds`: the engine's word for it with pictures of these roles; else its name. `printed`: a request as older
    documents print it (generation/api/requests/spellings.py). `block`: what such a task does to its picture, as a
    `postprocess` block, from the request's `params`; with it the kind needs no model and no GPU.
    """

    name: str
    path: str
    summary: str
    description: str
    pictures: tuple[Picture, ...] = ()
    options: tuple[Option, ...] = ()
    engine_kinds: tuple[tuple[frozenset[str], str], ...] = ()
    made_as: str = ""
    many_texts: bool = False
    block: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    example: Mapping[str, Any] = field(default_factory=dict)
    printed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task_kind(self) -> str:
        """The kind of the tasks that a request makes."""
        return self.made_as or self.name

    @property
    def needs_model(self) -> bool:
        """Whether a model draws its pictures: not where the picture that came with it is only processed."""
        return self.block is None

    @property
    def roles(self) -> dict[str, str]:
        """Field of the request -> role of its picture."""
        return {picture.field: picture.role for picture in self.pictures}

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of its own parameters in a task."""
        return tuple(option.stored for option in self.options if option.stored)

    def option(self, name: str) -> Option | None:
        return next((option for option in self.options if option.name == name), None)

    def drawn_by(self, role: str) -> Option | None:
        """The option that may stand for the picture of that role."""
        return next((option for option in self.options if option.draws == role), None)

    def own_parameters(self, params: Mapping[str, Any], model: Any) -> dict[str, Any]:
        """What a request's `params` say of its own parameters, for Parameters."""
        found = {option.stored: params[option.name] for option in self.options if option.name in params}
        for option in self.options:
            if option.of_model and option.name not in params and isinstance(option.value, Choice):
                found[option.stored] = next(iter(getattr(model, option.of_model)), option.value.allowed[0])
        found.pop("", None)
        return found

    def engine_kind(self, roles: Collection[str]) -> str:
        """The engine's word for a task with pictures of these roles."""
        return next((word for needed, word in self.engine_kinds if needed <= set(roles)), self.name)


STRENGTH: Final = Option(
    "strength", Number(0.05, 1, help="How much of the image may change, up to 1 (everything)."), stored="strength"
)
MASK_FEATHER: Final = Option("mask_feather", Integer(0, 64, help="Width of the mask's soft edge in pixels."))
AREA: Final = Option(
    "area",
    List(
        Integer(0, 16384),
        4,
        4,
        "numbers",
        help="Rectangle to repaint, instead of a mask: left, top, width and height in pixels.",
    ),
    draws="mask",
)
_CONTROL: Final = (
    Option(
        "control_type",
        Choice(CONTROL_TYPES, help="Default: the first type that the model supports."),
        stored="control_type",
        of_model="control_types",
    ),
    Option("control_strength", Number(0, 2), stored="control_scale"),
    Option(
        "control_start",
        Number(0, 1, help="Part of the steps after which the control image starts to apply."),
        stored="control_start",
    ),
    Option(
        "control_end",
        Number(0, 1, help="Part of the steps after which the control image stops applying."),
        stored="control_end",
        above="control_start",
    ),
    Option(
        "control_ready",
        Boolean(help="True: use the control image as it is. False: process it as a photo. Default: detect which."),
        stored="control_ready",
    ),
)
SCALES: Final = (2, 4)


def _enlarged(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """`scale`, or the scale of the request's own block, or 2."""
    block = params.get("postprocess", {})
    scale = params.get("scale") or (block.get("upscale") or {}).get("scale", SCALES[0])
    return _in_one_version({**block, "upscale": {"scale": scale}})


def _whitened(params: Mapping[str, Any]) -> Mapping[str, Any]:
    return _in_one_version({**params.get("postprocess", {}), "white_background": True})


def _in_one_version(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Nothing is delivered before the whole is done: what is sent later is found by the raw pictures of the engine."""
    upscale = block.get("upscale")
    return {**block, "upscale": {**upscale, "late": False}} if upscale else block


_TABLE: Final = (
    Kind(
        name="text2img",
        path="generate",
        summary="Generate images from text",
        description="A text-to-image request.",
        example={
            "text": "a red circle on a white background",
            "params": {"resolution": "256x256", "steps": 8, "seed": 7, "style": "cartoon"},
        },
        printed={
            "text": "科技风手机海报，蓝色调，突出摄像头和屏幕，无背景",
            "params": {
                "resolution": "1024×1024",
                "style": "tech",
                "steps": 50,
                "cfg_scale": 7.5,
                "sampler": "DPM++",
                "lora_name": "phone_style",
                "lora_weight": 1.2,
                "postprocess": {
                    "super_resolution": "2x",
                    "watermark": {
                        "enable": True,
                        "text": "XX品牌",
                        "font": "simhei",
                        "color": "#FFFFFF",
                        "position": "bottom-right",
                        "transparency": 30,
                    },
                },
            },
            "callback_url": "https://your-business.com/callback",
            "priority": 1,
        },
    ),
    Kind(
        name="img2img",
        path="img2img",
        summary="Generate images from an image and text",
        description="An image-to-image request.",
        pictures=(Picture("image", "image"),),
        options=(STRENGTH,),
        example={"text": "a blue circle", "image": "https://example.com/circle.png", "params": {"strength": 0.6}},
        printed={
            "image_url": "https://example.com/circle.png",
            "text": "a blue circle",
            "strength": 0.6,
            "style": "cartoon",
        },
    ),
    Kind(
        name="inpaint",
        path="inpaint",
        summary="Repaint part of an image",
        description="An inpainting request: the white areas of the mask, or `params.area`, are repainted.",
        pictures=(Picture("image", "image"), Picture("mask", "mask", part_of="image")),
        options=(STRENGTH, MASK_FEATHER, AREA),
        example={
            "text": "a green square",
            "image": "https://example.com/circle.png",
            "params": {"area": [64, 64, 128, 128], "mask_feather": 8},
        },
        printed={
            "image_url": "https://example.com/circle.png",
            "mask_url": "https://example.com/mask.png",
            "text": "a green square",
            "inpaint_area": [16, 16, 64, 64],
        },
    ),
    Kind(
        name="controlnet",
        path="controlnet",
        summary="Generate images with the lines, depth or pose of an image",
        description="A ControlNet request: the result keeps the lines, depth or pose of the control image. It may also "
        "start from an image.",
        pictures=(
            Picture("control_image", "control"),
            Picture("image", "image", required=False, help="Image to start from."),
            Picture("mask", "mask", required=False, part_of="image", help="White areas of `image` are repainted."),
        ),
        options=(*_CONTROL, STRENGTH, MASK_FEATHER, AREA),
        engine_kinds=(
            (frozenset({"image", "mask"}), "controlnet_inpaint"),
            (frozenset({"image"}), "controlnet_img2img"),
        ),
        example={
            "text": "a yellow star",
            "control_image": "https://example.com/edges.png",
            "params": {"control_type": "canny", "control_strength": 0.9},
        },
        printed={
            "image_url": "https://example.com/edges.png",
            "control_type": "Canny",
            "text": "a yellow star",
            "style": "cartoon",
        },
    ),
    Kind(
        name="batch",
        path="batch-generate",
        summary="Generate images for up to 100 prompts",
        description="Up to 100 prompts that share all other fields. Prompt i gets the seed `seed + i * num_images`.",
        made_as="text2img",
        many_texts=True,
        example={"texts": ["a red circle", "a blue square"], "batch_size": 8, "params": {"steps": 8}},
        printed={
            "texts": ["a red circle", "a blue square"],
            "resolution": "512×512",
            "style": "cartoon",
            "batch_size": 8,
        },
    ),
    Kind(
        name="upscale",
        path="upscale",
        summary="Enlarge an image",
        description="Enlarges an image 2 or 4 times by super-resolution. No model, no GPU.",
        pictures=(Picture("image", "image"),),
        options=(Option("scale", Choice(SCALES, help="Default: 2.")),),
        block=_enlarged,
        example={"image": "https://example.com/circle.png", "params": {"scale": 4, "format": "png"}},
        printed={"image_url": "https://example.com/circle.png", "scale": "2x"},
    ),
    Kind(
        name="background",
        path="background",
        summary="Make an image's background white",
        description="Makes the background of an image pure white, where it is plain. No model, no GPU.",
        pictures=(Picture("image", "image"),),
        block=_whitened,
        example={"image": "https://example.com/shoe.jpg", "params": {"format": "png"}},
        printed={"image_url": "https://example.com/shoe.jpg", "super_resolution": "2x"},
    ),
)
KINDS: Final[dict[str, Kind]] = {kind.name: kind for kind in _TABLE}
ROLES: Final = tuple(dict.fromkeys(picture.role for kind in _TABLE for picture in kind.pictures))


def task_kinds() -> list[str]:
    """The kinds that a task may have."""
    return [kind.name for kind in KINDS.values() if not kind.made_as]


def model_kinds() -> list[str]:
    """The kinds that a model may be able to make."""
    return [name for name in task_kinds() if KINDS[name].needs_model]


def needs_model(name: str) -> bool:
    """Whether tasks of the kind of that name have a model; also of one that is no longer in the table."""
    return name not in KINDS or KINDS[name].needs_model


def of_pictures(roles: Collection[str]) -> Kind:
    """The kind that needs pictures of exactly these roles."""
    wanted = set(roles)
    needing = ({picture.role for picture in kind.pictures if picture.required} for kind in KINDS.values())
    return next(kind for kind, needed in zip(KINDS.values(), needing, strict=True) if needed == wanted)


def engine_kind(parameters: Parameters) -> str:
    """The engine's word for a task; that of a kind without an endpoint is its name."""
    given = [role for role in ROLES if getattr(parameters, f"{role}_key")]
    kind = KINDS.get(parameters.kind)
    return kind.engine_kind(given) if kind else parameters.kind


TEXT_TO_IMAGE: Final = "text2img"
INPAINT: Final = "inpaint"
CONTROLNET: Final = "controlnet"
_USUAL: Final = (TEXT_TO_IMAGE, "img2img", INPAINT)
BY_FAMILY: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("sd15", "sd21", "sdxl"), (*_USUAL, CONTROLNET)),
    **dict.fromkeys(("sd3", "flux", "qwen-image", "z-image", "remote-openai"), _USUAL),
    **dict.fromkeys(("sd-inpaint", "lama"), (INPAINT,)),
    "diffusers": (TEXT_TO_IMAGE,),
}
"""What models of each family can do. The engine's own table is behind torch; a test holds the two together."""

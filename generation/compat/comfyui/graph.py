"""A graph of ComfyUI as one of our requests. It is read backwards from what it saves:

    SaveImage <- VAEDecode <- KSampler <- model: LoraLoader* <- CheckpointLoaderSimple
                                       <- positive, negative: CLIPTextEncode
                                       <- latent_image: EmptyLatentImage                          text2img
                                                        VAEEncode <- LoadImage                    img2img
                                                        VAEEncodeForInpaint, SetLatentNoiseMask   inpainting

Whatever else a graph has is refused with the nodes that are meant: a picture is either made as the graph says or not at
all. Of a mask the transparent part is painted (LoadImage; `alpha` of LoadImageMask), or what is white (`red`).
`grow_mask_by` has no effect. Seeds above 2^53 - 1 stand for their rest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from generation.catalogue import samplers
from generation.catalogue.kinds import Kind, of_pictures
from generation.catalogue.parameters import MAX_SEED
from generation.catalogue.snapshot import Catalogue
from generation.compat.comfyui.nodes import TYPES
from generation.tasks.inputs import GivenMask, MaskRule, Sent
from imagegenx_site.errors import ApiError

_MOST_NODES: Final = 200
_MOST_LORAS: Final = 10  # followed; the request's form has its own bound
_SUFFIXES: Final = (".safetensors", ".ckpt")


@dataclass(frozen=True)
class NodeFault:
    """What is wrong with an input of a node, in ComfyUI's words."""

    node: str
    kind: str
    message: str
    details: str
    input: str = ""


class GraphRefused(ApiError):
    """The graph can't be carried out. `kind`: ComfyUI's word for the whole; `faults`: by node."""

    http_status = 400
    code = "invalid_prompt"

    def __init__(self, kind: str, message: str, faults: list[NodeFault], types: Mapping[str, str]) -> None:
        super().__init__(message)
        self.kind, self.faults, self.types = kind, faults, types


@dataclass
class GraphRequest:
    """Our request. `places`: field of it -> node and input that it came from; `ends`: ids of the nodes that save;
    `types`: of every node.
    """

    kind: Kind
    body: dict[str, Any]
    ends: list[str]
    sampler: str
    prefix: str
    types: Mapping[str, str]
    places: dict[str, tuple[str, str]] = field(default_factory=dict)


def wanted(graph: Any, catalogue: Catalogue, upload: Callable[[str], Sent | None]) -> GraphRequest:
    """`upload`: the picture of a name, None for one that is not there. Raises GraphRefused."""
    return _Reader(_checked(graph), catalogue, upload).read()


def _checked(graph: Any) -> Mapping[str, Mapping[str, Any]]:
    """The nodes by id, all of them known. Raises GraphRefused."""
    if not isinstance(graph, dict) or not graph or len(graph) > _MOST_NODES:
        raise GraphRefused("no_prompt", f"No prompt provided: send a graph of 1 to {_MOST_NODES} nodes.", [], {})
    types = {str(name): str(node.get("class_type")) if isinstance(node, dict) else "" for name, node in graph.items()}
    unknown = {name: kind for name, kind in types.items() if kind not in TYPES}
    if unknown:
        message = f"Cannot execute because nodes do not exist here: {', '.join(sorted(set(unknown.values())))[:500]}."
        details = f"Known: {', '.join(TYPES)}."
        faults = [NodeFault(name, "missing_node_type", f"Node {kind[:100]!r} not found.", details)
                  for name, kind in unknown.items()]  # fmt: skip
        raise GraphRefused("missing_node_type", message, faults, types)
    return {str(name): node for name, node in graph.items()}


class _Reader:
    """Reads one graph backwards, and keeps which node each of our fields came from."""

    def __init__(
        self, graph: Mapping[str, Mapping[str, Any]], catalogue: Catalogue, upload: Callable[[str], Sent | None]
    ) -> None:
        self._graph, self._catalogue, self._upload = graph, catalogue, upload
        self._places: dict[str, tuple[str, str]] = {}
        self._used: set[str] = set()

    def read(self) -> GraphRequest:
        ends = [name for name, node in self._graph.items() if TYPES[node["class_type"]].ends]
        if not ends:
            raise GraphRefused("prompt_no_outputs", "Prompt has no outputs.", [], {})
        sampled = {self._sampler_of(end) for end in ends}
        if len(sampled) > 1:
            raise self._refused(ends[1], "images", "A graph makes the pictures of one KSampler here.")
        sampler = sampled.pop()
        params: dict[str, Any] = {"postprocess": {"format": "png"}}
        self._sampling(sampler, params)
        self._model(sampler, params)
        body: dict[str, Any] = {"text": self._words(sampler, "positive", "text"), "params": params}
        if negative := self._words(sampler, "negative", "params.negative_text"):
            params["negative_text"] = negative
        kind = self._latent(sampler, body)
        self._all_used()
        types = {name: self._type(name) for name in self._graph}
        prefix = self._graph[ends[0]].get("inputs", {}).get("filename_prefix", "")
        return GraphRequest(kind, body, ends, sampler, prefix if isinstance(prefix, str) else "", types, self._places)

    def _sampler_of(self, end: str) -> str:
        self._used.add(end)
        decoder = self._follow(end, "images", "VAEDecode")
        self._vae(decoder)
        return self._follow(decoder, "samples", "KSampler")

    def _sampling(self, node: str, params: dict[str, Any]) -> None:
        for name, ours in (("steps", "steps"), ("cfg", "cfg_scale")):
            params[ours] = self._value(node, name, f"params.{ours}")
        seed = self._value(node, "seed", "params.seed")
        params["seed"] = seed % (MAX_SEED + 1) if isinstance(seed, int) and seed > MAX_SEED else seed
        name, schedule = self._value(node, "sampler_name", "params.sampler"), self._value(node, "scheduler", "")
        found = samplers.find(str(name), str(schedule))
        if found is None:
            details = f"sampler_name: {str(name)[:60]!r} with scheduler {str(schedule)[:60]!r}. {samplers.known()}"
            raise self._refused(node, "sampler_name", details, "value_not_in_list")
        params["sampler"] = found

    def _model(self, sampler: str, params: dict[str, Any]) -> None:
        """The checkpoint, and the LoRAs between it and the sampler, in the order in which they were laid on."""
        loras: list[dict[str, Any]] = []
        node = self._follow(sampler, "model", "LoraLoader", "LoraLoaderModelOnly", "CheckpointLoaderSimple")
        while self._type(node) != "CheckpointLoaderSimple":
            name = self._value(node, "lora_name", f"params.loras[{len(loras)}].name")
            loras.insert(0, {"name": _bare(name), "weight": self._value(node, "strength_model", "params.loras")})
            if len(loras) > _MOST_LORAS:
                raise self._refused(node, "model", f"More than {_MOST_LORAS} LoRAs follow each other.")
            node = self._follow(node, "model", "LoraLoader", "LoraLoaderModelOnly", "CheckpointLoaderSimple")
        name = _bare(self._value(node, "ckpt_name", "params.model"))
        model = self._catalogue.model(name) if isinstance(name, str) else None
        if model is None:
            details = f"ckpt_name: {str(name)[:60]!r} not in {self._catalogue.model_names()}"
            raise self._refused(node, "ckpt_name", details, "value_not_in_list")
        params["model"] = model.name
        if loras:
            params["loras"] = loras

    def _words(self, sampler: str, name: str, ours: str) -> Any:
        node = self._follow(sampler, name, "CLIPTextEncode")
        clip = self._follow(node, "clip", "LoraLoader", "CheckpointLoaderSimple")
        for _ in range(_MOST_LORAS):
            if self._type(clip) == "CheckpointLoaderSimple":
                break
            clip = self._follow(clip, "clip", "LoraLoader", "CheckpointLoaderSimple")
        return self._value(node, "text", ours)

    def _latent(self, sampler: str, body: dict[str, Any]) -> Kind:
        params = body["params"]
        denoise = self._value(sampler, "denoise", "params.strength")
        node = self._follow(
            sampler, "latent_image", "EmptyLatentImage", "VAEEncode", "VAEEncodeForInpaint", "SetLatentNoiseMask"
        )
        if self._type(node) == "EmptyLatentImage":
            if denoise != 1:
                raise self._refused(sampler, "denoise", "An empty latent image takes denoise 1.", "value_not_in_list")
            width, height = (self._value(node, side, "params.resolution") for side in ("width", "height"))
            params["resolution"] = f"{str(width)[:9]}x{str(height)[:9]}"
            params["num_images"] = self._value(node, "batch_size", "params.num_images")
            return of_pictures(())
        params["strength"] = denoise
        masked = node if self._type(node) != "VAEEncode" else ""
        pixels = self._follow(node, "samples", "VAEEncode") if self._type(node) == "SetLatentNoiseMask" else node
        self._vae(pixels)
        loaded = self._follow(pixels, "pixels", "LoadImage")
        body["image"] = self._picture(loaded, "image")
        if masked:
            body["mask"] = self._mask(masked)
        return of_pictures(("image", "mask") if masked else ("image",))

    def _mask(self, node: str) -> GivenMask:
        mask = self._follow(node, "mask", "LoadImage", "LoadImageMask", slots=(1, 0))
        rule = MaskRule.TRANSPARENT
        if self._type(mask) == "LoadImageMask":
            channel = self._value(mask, "channel", "mask")
            if channel not in ("alpha", "red"):
                raise self._refused(mask, "channel", "alpha or red.", "value_not_in_list")
            rule = MaskRule.TRANSPARENT if channel == "alpha" else MaskRule.WHITE
        return GivenMask(self._picture(mask, "mask"), rule)

    def _picture(self, node: str, ours: str) -> Sent:
        name = self._value(node, "image", ours)
        found = self._upload(name) if isinstance(name, str) else None
        if found is None:
            details = f"image - Invalid image file: {str(name)[:100]}. Send it to /upload/image first."
            raise self._refused(node, "image", details, "custom_validation_failed")
        return found

    def _vae(self, node: str) -> None:
        self._follow(node, "vae", "CheckpointLoaderSimple")

    def _type(self, node: str) -> str:
        return str(self._graph[node]["class_type"])

    def _value(self, node: str, name: str, ours: str) -> Any:
        """An input that is a value. Raises GraphRefused."""
        inputs = self._graph[node].get("inputs")
        value = inputs.get(name) if isinstance(inputs, dict) else None
        if value is None and name == "text":
            value = ""
        if value is None or isinstance(value, list):
            kind, details = (
                ("required_input_missing", f"{name}") if value is None else ("not_a_value", "Write a value.")
            )
            raise self._refused(node, name, details, kind)
        self._places.setdefault(ours, (node, name))
        return value

    def _follow(self, node: str, name: str, *types: str, slots: tuple[int, ...] = ()) -> str:
        """The node that an input comes from. Raises GraphRefused."""
        inputs = self._graph[node].get("inputs")
        link = inputs.get(name) if isinstance(inputs, dict) else None
        source = str(link[0]) if isinstance(link, list) and len(link) == 2 else ""
        if source not in self._graph:
            raise self._refused(node, name, f"{name}: a link to a node.", "required_input_missing")
        found = self._type(source)
        if found not in types:
            details = f"{name}: comes from {found}, and may come from {' or '.join(types)} here."
            raise self._refused(node, name, details, "return_type_mismatch")
        wanted_slot = slots[types.index(found)] if slots else None
        if wanted_slot is not None and link[1] != wanted_slot:  # type: ignore[index]
            raise self._refused(node, name, f"{name}: output {wanted_slot} of {found}.", "return_type_mismatch")
        self._used.add(source)
        return source

    def _all_used(self) -> None:
        """Loaders and texts that lead nowhere change nothing in ComfyUI; what works on pictures must not be lost."""
        lost = [name for name in self._graph if name not in self._used and self._type(name) == "KSampler"]
        if lost:
            raise self._refused(lost[0], "", "A graph makes the pictures of one KSampler here.")

    def _refused(self, node: str, name: str, details: str, kind: str = "invalid_input_type") -> GraphRefused:
        types = {node: self._type(node)}
        messages = {
            "value_not_in_list": "Value not in list",
            "required_input_missing": "Required input is missing",
            "return_type_mismatch": "Return type mismatch between linked nodes",
            "custom_validation_failed": "Custom validation failed for node",
        }
        fault = NodeFault(node, kind, messages.get(kind, "Not possible here"), details, name)
        return GraphRefused("prompt_outputs_failed_validation", "Prompt outputs failed validation", [fault], types)


def _bare(name: Any) -> Any:
    """A file's name as the catalogue has it: without its ending."""
    if isinstance(name, str):
        for suffix in _SUFFIXES:
            name = name.removesuffix(suffix)
    return name

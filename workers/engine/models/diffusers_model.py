"""Any diffusers model: a stock, unmodified pipeline per sample, over components that are loaded once and shared."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import diffusers
import numpy as np
import torch

from generation.catalogue.samplers import AUTO
from workers.engine.errors import InvalidSample, ModelUnavailable, NotFinite
from workers.engine.interception import Phase, SharedModule, await_future, in_context, shared
from workers.engine.interface import Generated, OnStep
from workers.engine.models.component_loader import load_components, load_controlnets, own_family
from workers.engine.models.embedding_cache import EmbeddingCache
from workers.engine.models.families import Family
from workers.engine.models.inputs import picture_arguments, steps_for
from workers.engine.models.int8 import calibration_samples, in_fp32, quantise
from workers.engine.models.lora import LoraSet, RowLoras
from workers.engine.models.lora_files import LoraCache
from workers.engine.models.offload import OneOnDevice
from workers.engine.models.pipelines import PipelineMaker, parameters_of
from workers.engine.models.precision import INT8
from workers.engine.models.preprocessors import Preprocessors
from workers.engine.models.previews import preview
from workers.engine.models.prompts import PromptEncoder
from workers.engine.models.schedulers import choose_scheduler
from workers.engine.models.speed import apply_speed, wants_tiles
from workers.engine.requests import SampleRequest
from workers.engine.runtimes.hosting import HostedModule, host
from workers.engine.spec import ModelSpec

logger = logging.getLogger(__name__)

_OPTIONAL = ("negative_prompt", "width", "height")  # some pipelines take the size from their input picture


class DiffusersModel:
    """ModelInterface for a directory in diffusers' format. See families.py for what may stand in `spec.family`."""

    precisions: ClassVar[Sequence[str]] = ("fp64", "fp32", "bf16", "fp16", "int8")

    def __init__(self, spec: ModelSpec, family: Family, device: torch.device) -> None:
        self.spec = spec
        self.family = family
        self.device = device
        self.components: dict[str, Any] = {}
        self.controlnets: dict[str, torch.nn.Module] = {}
        self.heavy: dict[str, SharedModule] = {}
        self.hosted: dict[str, HostedModule] = {}  # by another runtime than torch
        self._speed = spec.options.get("speed", {})
        self._tiled: dict[str, Any] = {}
        self._pipelines = PipelineMaker(device)
        self._preprocessors = Preprocessors(spec)
        self._side_thread = ThreadPoolExecutor(1, thread_name_prefix="preprocessor")  # starts when it is used

    # ---- ModelInterface

    def load(self) -> None:
        """Read the weights, put the heavy modules behind shared ones and move onto the device what is to be there:
        last, when it is as small as it will be. Raises ModelUnavailable with the reason."""
        if not self.family.pipelines:
            self.family = own_family(self.spec, self.family)
        self.components = load_components(self.spec, self.device)
        self.controlnets = load_controlnets(self.spec, self.device)
        for module in self._modules():
            module.eval().requires_grad_(False)
        apply_speed(self.components, self.family.denoiser, self._speed, self.device)
        self.hosted = host(self.components, self.family.denoiser, self.spec, self.device)
        offloaded = OneOnDevice(self._modules()) if self._offloads else None
        if hasattr(self.components["vae"], "enable_tiling"):
            self._tiled["vae"] = copy.copy(self.components["vae"])
            self._tiled["vae"].enable_tiling()
            self._share_decoder(self._tiled)
        self._share(self.components, self.family.denoiser, Phase.DENOISE)
        self._share_decoder(self.components)
        for control_type in self.controlnets:
            self._share(self.controlnets, control_type, Phase.AUXILIARY)
        self._prepare_loras()
        if self.spec.precision == INT8:
            self._quantise()
        if offloaded is not None:
            offloaded.use(self.device)
        else:
            self._move()

    def infer(self, request: SampleRequest, on_step: OnStep) -> Generated:
        """Run the stock pipeline for one sample."""
        warnings: list[str] = []
        for use in request.loras:
            self.loras.get(use)  # a LoRA that does not fit ends the sample before any work
        pipeline = self.pipeline_for(request, warnings)
        arguments = self._arguments(request, pipeline, warnings)

        def after_step(pipe: Any, index: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(index + 1, pipe.num_timesteps, self._preview(request, index + 1, tensors))
            return tensors

        def after_step_of_old(index: int, _time: Any, latents: torch.Tensor) -> None:
            picture = self._preview(request, index + 1, {"latents": latents})
            on_step(index + 1, arguments["num_inference_steps"], picture)

        accepted = parameters_of(type(pipeline).__call__)
        callbacks = {"callback_on_step_end": after_step, "callback": after_step_of_old}
        name = next((name for name in callbacks if name in accepted), None)
        with in_context(request.loras):
            pictures = pipeline(**arguments, **({name: callbacks[name]} if name else {})).images
        return Generated(_to_array(pictures[0]), tuple(warnings))

    def release(self) -> None:
        """Forget the weights."""
        for parts in (self.components, self.controlnets, self.heavy, self.hosted, self._tiled, self._pipelines):
            parts.clear()
        if hasattr(self, "prompts"):
            self.prompts.close()
            del self.prompts, self.loras  # they know the modules, too
        self._side_thread.shutdown(wait=False)

    def memory_bytes(self) -> int:
        """Bytes of all parameters and buffers that are on the device at once: of an offloaded model those of its
        largest module. Another runtime has weights of its own beside torch's."""
        sizes = [sum(part.nbytes for part in (*one.parameters(), *one.buffers())) for one in self._modules()]
        packed = sum(one.session.bytes for one in self.hosted.values())
        return max(sizes, default=0) if self._offloads else sum(sizes) + packed

    # ---- a pipeline for one sample

    def pipeline_for(self, request: SampleRequest, warnings: list[str]) -> Any:
        """A pipeline object of its own: its constructor patches the scheduler's configuration."""
        name = self.family.pipelines.get(request.kind)
        if name is None:
            kinds = ", ".join(self.family.pipelines)
            raise InvalidSample(f"model {self.spec.name} does not do {request.kind}; it does {kinds}")
        sampler = request.parameters.sampler
        if sampler != AUTO and not self.family.any_sampler:
            warnings.append(f"model {self.spec.name} has a schedule of its own; sampler {sampler} was not used")
            sampler = AUTO
        tiled = bool(self._tiled) and wants_tiles(self._speed, request.width, request.height)
        controlled = request.kind.startswith("controlnet")
        control_type = request.parameters.control_type if controlled else None
        controlnet = {"controlnet": self._controlnet(control_type)} if controlled else {}
        own = self.components["scheduler"]
        scheduler = choose_scheduler(own, sampler, request.steps)

        def components() -> dict[str, Any]:
            tiles = self._tiled if tiled else {}
            return {**self.components, **tiles, **controlnet, "scheduler": scheduler.make(own)}

        return self._pipelines.make(getattr(diffusers, name), (scheduler, tiled, control_type), components)

    def _controlnet(self, control_type: str | None) -> torch.nn.Module:
        if control_type not in self.controlnets:
            known = ", ".join(self.controlnets) or "none"
            raise InvalidSample(f"model {self.spec.name} has no ControlNet {control_type!r}; it has {known}")
        return self.controlnets[control_type]

    def _arguments(self, request: SampleRequest, pipeline: Any, warnings: list[str]) -> dict[str, Any]:
        arguments = {
            **self.prompts.arguments(request, pipeline, warnings),
            "width": request.width,
            "height": request.height,
            "num_inference_steps": steps_for(request, warnings),
            self.family.guidance: request.parameters.cfg_scale,
            "generator": torch.Generator("cpu").manual_seed(request.seed),
            "output_type": "pt",
            **picture_arguments(request, self._draw),
        }
        accepted = parameters_of(type(pipeline).__call__)
        if "negative_prompt" not in accepted and request.parameters.negative_text:
            warnings.append(f"model {self.spec.name} takes no negative prompt; it was not used")
        taken = {name: value for name, value in arguments.items() if name in accepted or name not in _OPTIONAL}
        return {name: value for name, value in taken.items() if value is not None}  # what is left out has a default

    def _draw(self, control_type: str, photo: np.ndarray) -> np.ndarray:
        """A control picture, drawn in another thread while the other samples step on."""
        return await_future(self._side_thread.submit(self._preprocessors.draw, control_type, photo))

    def _preview(self, request: SampleRequest, step: int, tensors: dict[str, Any]) -> np.ndarray | None:
        if not request.preview_every or step % request.preview_every:
            return None
        return preview(tensors.get("latents"), self.heavy["vae"].run, self.components["vae"].config)

    # ---- modules

    @property
    def _offloads(self) -> bool:
        """On a CPU there is nothing to keep free."""
        return bool(self._speed.get("offload")) and self.device.type != "cpu"

    def _move(self) -> None:
        """One module after the other, so that a failure leaves as little behind as may be."""
        try:
            for module in self._modules():
                module.to(self.device)
        except RuntimeError as error:
            self.release()
            raise ModelUnavailable(f"model {self.spec.key} does not fit on {self.device}: {error}") from error

    def _quantise(self) -> None:
        """The denoiser and the text encoders, with pictures of their own as the calibration set: made on the CPU,
        because the device may not hold the model before."""
        texts = {name: part for name, part in self.components.items() if name.startswith("text_encoder") and part}
        denoiser = self.heavy[self.family.denoiser].module
        assert denoiser is not None
        samples = calibration_samples(self.spec, self.family)
        self._pipelines = PipelineMaker(torch.device("cpu"))
        with in_fp32(self._modules()) as calibrated:  # in 16 bits a CPU would take minutes
            left = quantise(
                {self.family.denoiser: denoiser, **texts},
                lambda: [self.infer(one, lambda step, steps, preview: None) for one in samples if calibrated],
            )
        self._pipelines = PipelineMaker(self.device)
        self.prompts.cache.clear()  # of the unchanged encoders
        logger.info("model %s: weights of 8 bits, but for %s", self.spec.key, ", ".join(left) or "none")

    def _prepare_loras(self) -> None:
        """LoRAs act on the denoiser by row, and on the text encoders while they encode for their sample."""
        denoiser = self.heavy[self.family.denoiser]
        texts = {name: part for name, part in self.components.items() if name.startswith("text_encoder") and part}
        reader = getattr(diffusers, next(iter(self.family.pipelines.values())))
        self.loras = LoraCache({self.family.denoiser: denoiser.module, **texts}, reader, self.device)
        denoiser.before = RowLoras(denoiser.module, self.family.denoiser, self.loras).set_rows
        text_loras = [RowLoras(module, name, self.loras) for name, module in texts.items()]

        @contextmanager
        def under_loras(loras: LoraSet) -> Iterator[None]:
            with ExitStack() as stack:
                for hooks in text_loras:
                    stack.enter_context(hooks.all_rows(loras))
                yield

        self.prompts = PromptEncoder(self.components, self.family, self.spec.name, EmbeddingCache(), under_loras)

    def _modules(self) -> list[torch.nn.Module]:
        everything = [*self.components.values(), *self.controlnets.values()]
        return [component for component in everything if isinstance(component, torch.nn.Module)]

    def _share_decoder(self, parts: dict[str, Any]) -> None:
        """The VAE's decoder, for one sample: latents and pictures that are not finite end theirs, before a pipeline
        makes ordinary white or black of them."""
        self._share(parts, "vae", Phase.DECODE, method="decode")
        vae = parts["vae"]
        decode = vae.decode

        @functools.wraps(decode)
        def checked(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            _check_finite(latents, "latent")
            decoded = decode(latents, *args, **kwargs)
            _check_finite(decoded[0], "picture")
            return decoded

        vae.decode = checked

    def _share(self, modules: dict[str, Any], name: str, phase: Phase, method: str = "forward") -> None:
        modules[name], self.heavy[name] = shared(modules[name], phase, method=method)


def _check_finite(values: torch.Tensor, what: str) -> None:
    """Raises NotFinite."""
    if not bool(torch.isfinite(values).all()):
        raise NotFinite(what)


def _to_array(picture: torch.Tensor) -> np.ndarray:
    """[3, H, W] of any floating dtype on any device -> float32 [H, W, 3] in 0..1."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).clamp(0, 1).to("cpu", torch.float32).numpy())

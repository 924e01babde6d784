"""Any diffusers model: a stock, unmodified pipeline per sample, over components that are loaded once and shared."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import numpy as np
import torch

from workers.engine.errors import InvalidRequest, ModelUnavailable
from workers.engine.parking import Phase, SharedModule, shared
from workers.engine.requests import SampleRequest
from workers.models.families import Family
from workers.models.interface import Generated, OnStep
from workers.models.samplers import AUTO, make_scheduler
from workers.models.spec import ModelSpec

DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class DiffusersModel:
    """ModelInterface for a directory in diffusers' format. See families.py for what may stand in `spec.family`."""

    def __init__(self, spec: ModelSpec, family: Family, device: torch.device) -> None:
        self.spec = spec
        self.family = family
        self.device = device
        self.components: dict[str, Any] = {}
        self.heavy: dict[str, SharedModule] = {}

    # ---- ModelInterface

    def load(self) -> None:
        """Read the weights. Raises ModelUnavailable with the reason."""
        try:
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                self.spec.source, dtype=self._dtype(), local_files_only=True
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelUnavailable(f"model {self.spec.key} could not be loaded: {error}") from error
        self.take_components(pipeline.to(self.device).components)

    def take_components(self, components: dict[str, Any]) -> None:
        """Use these loaded components: their heavy modules are put behind shared ones."""
        self.components = dict(components)
        for module in self._modules():
            module.eval().requires_grad_(False)
        self._share(self.family.denoiser, Phase.DENOISE)
        self._share("vae", Phase.SIDE, method="decode")

    def infer(self, request: SampleRequest, on_step: OnStep) -> Generated:
        """Run the stock pipeline for one sample."""
        warnings: list[str] = []
        pipeline = self._pipeline(request, warnings)
        arguments = self._arguments(request)

        def after_step(pipe: Any, index: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(index + 1, pipe.num_timesteps, None)
            return tensors

        pictures = pipeline(**arguments, callback_on_step_end=after_step).images
        return Generated(_to_array(pictures[0]), tuple(warnings))

    def release(self) -> None:
        """Forget the weights."""
        self.components, self.heavy = {}, {}

    def memory_bytes(self) -> int:
        """Bytes of all parameters and buffers."""
        tensors = [tensor for module in self._modules() for tensor in (*module.parameters(), *module.buffers())]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    # ---- a pipeline for one sample

    def _pipeline(self, request: SampleRequest, warnings: list[str]) -> Any:
        """A pipeline object of its own: its constructor patches the scheduler's configuration."""
        name = self.family.pipelines.get(request.kind)
        if name is None:
            kinds = ", ".join(self.family.pipelines)
            raise InvalidRequest(f"model {self.spec.name} does not do {request.kind}; it does {kinds}")
        sampler = request.sampler
        if sampler != AUTO and not self.family.any_sampler:
            warnings.append(f"model {self.spec.name} has a schedule of its own; sampler {sampler} was not used")
            sampler = AUTO
        own = self.components["scheduler"]
        components = {**self.components, "scheduler": make_scheduler(own, sampler, request.steps)}
        return _build(getattr(diffusers, name), components)

    def _arguments(self, request: SampleRequest) -> dict[str, Any]:
        return {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.steps,
            self.family.guidance: request.cfg_scale,
            "generator": torch.Generator("cpu").manual_seed(request.seed),
            "output_type": "pt",
        }

    # ---- loading

    def _modules(self) -> list[torch.nn.Module]:
        return [component for component in self.components.values() if isinstance(component, torch.nn.Module)]

    def _dtype(self) -> torch.dtype:
        if self.spec.precision == "auto":
            return torch.float32 if self.device.type == "cpu" else torch.bfloat16
        return DTYPES[self.spec.precision]

    def _share(self, name: str, phase: Phase, method: str = "forward") -> None:
        self.components[name], self.heavy[name] = shared(self.components[name], phase, method=method)


def _build(pipeline_class: Any, components: dict[str, Any]) -> Any:
    """A pipeline from those components that its constructor takes; what a model lacks is None."""
    arguments = {}
    for name, parameter in inspect.signature(pipeline_class.__init__).parameters.items():
        if name in components:
            arguments[name] = components[name]
        elif name != "self" and parameter.default is inspect.Parameter.empty:
            arguments[name] = None
    if "safety_checker" in arguments and arguments["safety_checker"] is None:
        arguments["requires_safety_checker"] = False
    pipeline = pipeline_class(**arguments)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _to_array(picture: torch.Tensor) -> np.ndarray:
    """[3, H, W] of any floating dtype on any device -> float32 [H, W, 3] in 0..1."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).clamp(0, 1).to("cpu", torch.float32).numpy())

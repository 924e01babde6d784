"""The stock diffusers pipeline on the same device, sizes and steps; nothing is stored. One setting a process, since an
allocator is chosen before the first line: `python -m deploy.bench.cost.bare CASE-AS-JSON` prints one JSON line.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from deploy.bench.product import ROOT
from deploy.commands import ENGINE_ENVIRONMENT

TEXT: Final = "a red circle, white background"
MODELS: Final = ROOT / "fixtures" / "models"
HOSTED: Final = ("unet", "text_encoder", "vae_decoder")


@dataclass(frozen=True)
class BareSetting:
    """How the pipeline is run. `allocator`: with the variables of the product's GPU worker; `layout`: channels last;
    `runtime`: UNet, text encoder and VAE decoder by ONNX Runtime, from the graphs that ship, as the product runs them.
    """

    batch: int = 8
    threads: int = 1
    allocator: bool = False
    layout: bool = False
    runtime: bool = False


TODAY: Final = BareSetting(threads=os.cpu_count() or 1)
SETTINGS: Final = [
    TODAY,
    *(
        BareSetting(batch, threads, allocator=True, layout=layout)
        for batch in (1, 8)
        for threads in sorted({1, os.cpu_count() or 1})
        for layout in (False, True)
    ),
    *(
        BareSetting(batch, threads, allocator=True, runtime=True)
        for batch in (1, 8)
        for threads in sorted({1, os.cpu_count() or 1})
    ),
]


def measure(model: str, steps: int, side: int, count: int, setting: BareSetting) -> dict[str, float]:
    """Pictures/s and CPU ms a picture of one setting, in a process of its own."""
    case = {"model": model, "steps": steps, "side": side, "count": count, "setting": asdict(setting)}
    ours = ENGINE_ENVIRONMENT if setting.allocator else {}
    env = {name: value for name, value in os.environ.items() if name not in ENGINE_ENVIRONMENT} | ours
    env["OMP_NUM_THREADS"] = str(setting.threads)
    command = [sys.executable, "-m", "deploy.bench.cost.bare", json.dumps(case)]
    answer = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"the bare pipeline failed:\n{answer.stderr[-3000:]}")
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def _pipeline(model: str, setting: BareSetting) -> Any:
    import torch
    from diffusers import DPMSolverMultistepScheduler, LCMScheduler, StableDiffusionPipeline

    from workers.engine.runtimes.hosting import host
    from workers.engine.runtimes.measured_choice import ONNX
    from workers.engine.spec import ModelSpec, RuntimeConfig

    torch.set_num_threads(setting.threads)
    pipe = StableDiffusionPipeline.from_pretrained(MODELS / "mini", torch_dtype=torch.float32)
    if model == "mini-turbo":
        pipe.load_lora_weights(str(MODELS / "lora" / "turbo.safetensors"))
        pipe.fuse_lora()
        pipe.unload_lora_weights()
    kind = LCMScheduler if model == "mini-turbo" else DPMSolverMultistepScheduler
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    if setting.layout:
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    if setting.runtime:
        runtime = RuntimeConfig(ONNX, setting.threads)
        spec = ModelSpec("bare", "1", "sd15", str(MODELS / "mini"), runtime=runtime)
        if len(host(pipe.components, "unet", spec, torch.device("cpu"))) != len(HOSTED):
            raise SystemExit("ONNX Runtime does not run every part of the pipeline")
    return pipe


def _run(case: dict[str, Any]) -> dict[str, float]:
    import torch

    setting = BareSetting(**case["setting"])
    pipe = _pipeline(case["model"], setting)
    guidance = 1.0 if case["model"] == "mini-turbo" else 4.0

    def make(size: int, seed: int) -> None:
        generators = [torch.Generator().manual_seed(seed + index) for index in range(size)]
        shape = {"height": case["side"], "width": case["side"]}
        options = {"num_inference_steps": case["steps"], "guidance_scale": guidance, "generator": generators}
        pipe([TEXT] * size, **shape, **options)

    make(setting.batch, 0)
    count = max(setting.batch, case["count"] // setting.batch * setting.batch)
    begun, cpu = time.monotonic(), time.process_time()
    for start in range(0, count, setting.batch):
        make(setting.batch, start)
    seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
    return {"images_per_s": round(count / seconds, 3), "cpu_ms": round(1000 * cpu / count, 1)}


if __name__ == "__main__":
    print(json.dumps(_run(json.loads(sys.argv[1]))))

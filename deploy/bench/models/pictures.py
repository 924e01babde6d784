"""Whole pictures by one runtime, in a process of its own so that its memory and allocator are its own:
`python -m deploy.bench.models.pictures CASE-AS-JSON` saves the pictures and prints one JSON line.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from deploy.bench.product import ROOT
from deploy.commands import ALLOCATOR

PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class PictureCase:
    """`prompts`: one picture each, the seed counts from 7 on. `at_once`: samples that the engine holds together."""

    name: str
    family: str
    source: str
    steps: int
    cfg: float
    sampler: str
    prompts: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    width: int = 256
    height: int = 256
    threads: int = 1
    at_once: int = 4


def run_case(case: PictureCase, saved: Path) -> dict[str, float]:
    """Pictures/s, CPU ms a picture and memory of the process; the pictures as float32 [n, H, W, 3] in `saved`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    env = kept | ALLOCATOR | {"OMP_NUM_THREADS": str(case.threads)}
    command = [sys.executable, "-m", "deploy.bench.models.pictures", json.dumps(asdict(case)), str(saved)]
    answer = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{case.name} with {case.options} made no pictures:\n{answer.stderr[-3000:]}")
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def _run(case: PictureCase, saved: Path) -> dict[str, float]:
    import numpy as np

    from generation.catalogue.parameters import Parameters
    from workers.engine import Engine, EngineConfig, Failed, Finished, ModelPool, ModelSpec, PoolConfig, SampleRequest
    from workers.engine.requests import SampleId
    from workers.engine.spec import RuntimeConfig

    pool = ModelPool(PoolConfig(device="cpu"))
    runtime = RuntimeConfig(threads=case.threads)
    pool.ensure(ModelSpec(case.name, "1", case.family, case.source, "fp32", case.options, runtime))
    pool.preload([f"{case.name}@1"])
    engine = Engine(pool, EngineConfig(threads=case.threads))
    waiting = [
        SampleRequest(
            SampleId("picture", number),
            Parameters("text2img", text, "", case.width, case.height, case.steps, case.cfg, case.sampler, 7),
            f"{case.name}@1",
            2,
        )
        for number, text in enumerate(case.prompts)
    ]
    pictures: dict[int, np.ndarray] = {}
    engine.admit(waiting[0])  # not timed: what is prepared at the first call
    while not engine.idle:
        engine.step()
    began, cpu = time.monotonic(), time.process_time()
    while waiting or not engine.idle:
        while waiting and len(engine.running()) < case.at_once:
            engine.admit(waiting.pop(0))
        for event in engine.step():
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                pictures[event.sample_id.index] = event.image
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    np.save(saved, np.stack([pictures[number] for number in sorted(pictures)]))
    count = len(pictures)
    return {
        "pictures_per_s": round(count / seconds, 3),
        "cpu_ms": round(1000 * cpu / count, 1),
        "memory_mb": round(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20),
    }


if __name__ == "__main__":
    print(json.dumps(_run(PictureCase(**json.loads(sys.argv[1])), Path(sys.argv[2]))))

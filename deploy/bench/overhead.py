"""`make bench-overhead`: what the platform adds to a task, and its images/s beside the bare pipeline.

Starts the whole product in a folder of its own, then in one run:

    latency      one task at a time, below saturation. From the event stream and the rows, in ms:
                 submit -> claimed, submit -> first step done, last step -> stored, last step -> answer to the client
    throughput   N tasks submitted at once, through HTTP, queues, engine, post-processing and store
    bare         the stock diffusers pipeline on the same device, threads and sizes, at the mean batch that the engine
    formed
                 and one at a time; no HTTP, no database, nothing stored

The baseline of the throughput is `bare` at the same batch size.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg2
import redis

from deploy.bench.product import ROOT, environment_of, product, ready

RESULTS: Final = ROOT / "docs" / "benchmarks" / "overhead.json"
TEXT: Final = "a red circle, white background"


class Probe:
    """Observes the product over HTTP, and its rows and events."""

    def __init__(self, var_dir: Path) -> None:
        address, env = ready(var_dir), environment_of(var_dir)
        headers = {"authorization": f"Bearer {address['api_key']}"}
        self.http = httpx.Client(base_url=str(address["url"]), headers=headers, timeout=300, trust_env=False)
        self._rows = psycopg2.connect(env["DATABASE_URL"])
        self._rows.autocommit = True
        self._redis = redis.Redis.from_url(env["REDIS_URL"], decode_responses=True, socket_timeout=5)

    def generate(self, steps: int, seed: int, wait: int = 300) -> tuple[str, float, float]:
        """Generate one picture: its id, and the times (Unix s) of the request and of the answer."""
        body = {"text": TEXT, "params": {"resolution": "256x256", "steps": steps, "seed": seed, "cache": False}}
        sent = time.time()
        answer = self.http.post("/api/v1/image/generate", json=body, headers={"prefer": f"wait={wait}"})
        data = answer.raise_for_status().json()["data"]
        if data["status"] != "succeeded":
            raise SystemExit(f"{data['task_id']} ended as {data['status']}: {data['error']}")
        digits = data["task_id"].removeprefix("img")
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])), sent, time.time()

    def moments(self, task_id: str) -> dict[str, float]:
        """Times of a task (Unix s): claimed and stored from its row, first and last step from the event stream."""
        with self._rows.cursor() as cursor:
            cursor.execute("SELECT started_at, history FROM generation_task WHERE id = %s", [task_id])
            found = cursor.fetchone()
        if found is None:
            raise SystemExit(f"{task_id} has no row")
        moments = {entry["to"]: datetime.fromisoformat(entry["at"]).timestamp() for entry in found[1] if "to" in entry}
        moments["claimed"] = found[0].timestamp()
        for entry_id, event in self._redis.xrange("gq:ev"):
            if event["task"] == task_id and event["kind"] == "progress":
                at = int(entry_id.partition("-")[0]) / 1000
                moments.setdefault("first_step", at)
                moments["last_step"] = at
        return moments


def latencies(probe: Probe, count: int, steps: int) -> dict[str, dict[str, float]]:
    """p50 and p99 in ms over `count` tasks, one at a time."""
    taken: dict[str, list[float]] = {}
    for number in range(count + 3):
        task_id, sent, answered = probe.generate(steps, number)
        if number < 3:  # warm up
            continue
        moment = probe.moments(task_id)
        spans = {
            "submit -> claimed": moment["claimed"] - sent,
            "submit -> first step done": moment["first_step"] - sent,
            "last step -> stored": moment["stored"] - moment["last_step"],
            "  last step -> generated (decoded, kept)": moment["generated"] - moment["last_step"],
            "  generated -> processed": moment["processed"] - moment["generated"],
            "  processed -> stored": moment["stored"] - moment["processed"],
            "last step -> answer": answered - moment["last_step"],
            "submit -> answer": answered - sent,
        }
        for name, seconds in spans.items():
            taken.setdefault(name, []).append(seconds * 1000)
    return {name: {"p50": quantile(values, 0.5), "p99": quantile(values, 0.99)} for name, values in taken.items()}


def throughput(probe: Probe, count: int, steps: int) -> dict[str, float]:
    """Images/s of `count` tasks sent at once, from the first request to the last answer."""
    with ThreadPoolExecutor(count) as threads:
        begun = time.monotonic()
        list(threads.map(lambda number: probe.generate(steps, number), range(count)))
        seconds = time.monotonic() - begun
    return {"images": count, "seconds": round(seconds, 2), "images_per_s": round(count / seconds, 3)}


def bare(batch: int, count: int, steps: int, threads: int) -> float:
    """Images/s of the stock pipeline at this batch size, after one uncounted batch."""
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    torch.set_num_threads(threads)
    pipe = StableDiffusionPipeline.from_pretrained(ROOT / "fixtures" / "models" / "mini", torch_dtype=torch.float32)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)

    def run(size: int, seed: int) -> None:
        generators = [torch.Generator().manual_seed(seed + index) for index in range(size)]
        pipe([TEXT] * size, height=256, width=256, num_inference_steps=steps, guidance_scale=4.0, generator=generators)

    run(batch, 0)
    begun = time.monotonic()
    for start in range(0, count, batch):
        run(min(batch, count - start), start)
    return round(count / (time.monotonic() - begun), 3)


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of the values lie."""
    return round(statistics.quantiles(values, n=100, method="inclusive")[round(part * 100) - 1], 1)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=40, help="tasks of the latency part")
    parser.add_argument("--images", type=int, default=32, help="images of the throughput part")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="CPU threads of engine and bare pipeline"
    )
    options = parser.parse_args()
    results: dict[str, Any] = {"settings": vars(options) | {"size": "256x256", "model": "mini"}}
    with product({"TORCH_THREADS": str(options.threads)}) as var_dir:
        probe = Probe(var_dir)
        print(f"latency, {options.tasks} tasks one at a time", flush=True)
        results["latency_ms"] = latencies(probe, options.tasks, options.steps)
        print(f"throughput, {options.images} tasks at once", flush=True)
        results["platform"] = throughput(probe, options.images, options.steps)
    for batch in (1, 4, 8, 16):
        print(f"bare pipeline, batch {batch}", flush=True)
        rate = bare(batch, max(batch, options.images // 2), options.steps, options.threads)
        results[f"bare_batch_{batch}"] = {"images_per_s": rate}
    report(results)


def report(results: dict[str, Any]) -> None:
    """The table, and the same as JSON."""
    print(f"\n{'ms':<42}{'p50':>10}{'p99':>10}")
    for name, row in results["latency_ms"].items():
        print(f"{name:<42}{row['p50']:>10.1f}{row['p99']:>10.1f}")
    print(f"\n{'images/s':<28}{'':>10}{'of bare':>10}")
    ours = results["platform"]["images_per_s"]
    print(f"{'platform':<28}{ours:>10.3f}")
    for name, row in results.items():
        if name.startswith("bare_batch_"):
            row["platform_over_bare"] = round(ours / row["images_per_s"], 3)
            print(f"{name:<28}{row['images_per_s']:>10.3f}{row['platform_over_bare']:>10.2f}")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

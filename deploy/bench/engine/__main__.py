"""The engine beside the two usual ways of serving, on one machine, with the same arrivals and the same model.

    python -m deploy.bench.engine.__main__ --tasks 60 --side 64 --out docs/benchmarks

- one at a time: a stock pipeline call per task, P0 first.
- static batches: tasks with the same steps, sampler and guidance that wait at the same time share a stock call; a
  batch starts when it is full or its oldest task has waited 50 ms.
- engine: continuous batching.

Arrivals are Poisson at a multiple of what one-at-a-time can do, measured at the start. Time is the CPU time of the
serving thread (`--clock cpu`), so that other programs on the machine and waiting for arrivals do not count; on a GPU
use `--clock wall`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

from deploy.bench.engine.report import table, write
from deploy.bench.engine.serving import EngineServer, OneAtATime, Server, StaticBatches, stock_batch
from deploy.bench.engine.step_overhead import measure_overhead
from deploy.bench.engine.workload import Arrival, arrivals, workload
from workers.engine import Engine, EngineConfig, ModelPool, ModelSpec, PoolConfig, SampleRequest
from workers.engine.models.diffusers_model import DiffusersModel
from workers.engine.requests import SampleId

Servers = dict[str, Callable[[], Server]]
ROWS_EACH = 2  # of a task: with and without its prompt
LOADS = (0.5, 0.8, 0.95, 1.3)
CLOCKS: dict[str, Callable[[], float]] = {"cpu": time.thread_time, "wall": time.perf_counter}


@dataclass
class ServedLoad:
    """Latencies in seconds by sample, in order of arrival, and when the last one was done."""

    latencies: dict[SampleId, float] = field(default_factory=dict)
    ended: float = 0.0
    batches: list[int] = field(default_factory=list)


def serve(server: Server, planned: Sequence[Arrival], clock: Callable[[], float]) -> ServedLoad:
    """Play the arrivals to a server. Idle time is skipped: the clock jumps to the next arrival or batch window."""
    outcome = ServedLoad()
    came = {arrival.request.sample_id: arrival.at for arrival in planned}
    waiting, now = list(planned), 0.0
    while len(outcome.latencies) < len(planned):
        while waiting and waiting[0].at <= now:
            server.take(waiting.pop(0).request)
        until = server.idle_until(now)
        if until is not None:
            now = min(until, waiting[0].at) if waiting else until
            continue
        started = clock()
        finished = server.work(now)
        now += clock() - started
        outcome.batches.append(server.last_batch)
        for sample_id in finished:
            outcome.latencies[sample_id] = now - came[sample_id]
    outcome.ended = now
    return outcome


def summary(outcome: ServedLoad, planned: Sequence[Arrival]) -> dict[str, float]:
    """Figures of one run; latencies in seconds."""
    latencies = sorted(outcome.latencies.values())
    urgent = sorted(outcome.latencies[a.request.sample_id] for a in planned if a.request.priority == 0)
    return {
        "images_per_second": round(len(latencies) / outcome.ended, 3),
        "p50": _at(latencies, 0.5),
        "p95": _at(latencies, 0.95),
        "p99": _at(latencies, 0.99),
        "p0_p50": _at(urgent, 0.5),
        "p0_p95": _at(urgent, 0.95),
        "mean_rows": round(ROWS_EACH * sum(outcome.batches) / len(outcome.batches), 2),
    }


def _at(values: Sequence[float], share: float) -> float:
    """The value below which that share of the sorted values lies."""
    return round(values[min(len(values) - 1, int(share * len(values)))], 4)


def capacity(servers: Servers, requests: Sequence[SampleRequest], clock: Callable) -> float:
    """Tasks per second of one-at-a-time when all wait at the start."""
    planned = [Arrival(0.0, request) for request in requests[:24]]
    serve(servers["one at a time"](), planned[:2], clock)  # warm up
    return len(planned) / serve(servers["one at a time"](), planned, clock).ended


def unloaded(server: Server, requests: Sequence[SampleRequest], clock: Callable[[], float]) -> list[float]:
    """Latencies in seconds of the P0 tasks when each has the server for itself."""
    urgent = [request for request in requests if request.priority == 0]
    far_apart = [Arrival(1000.0 * number, request) for number, request in enumerate(urgent)]
    return list(serve(server, far_apart, clock).latencies.values())


def offline(
    pool: ModelPool, folder: str, side: int, clock: Callable[[], float], batch: int = 8, rounds: int = 4
) -> dict[str, float]:
    """Images per second of the bare pipeline's batch loop and of the engine at the same rows: alike tasks, no queue.

    The bare one is diffusers' own, loaded by itself. Both take turns; the best round of each counts.
    """
    bare_pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    bare_pipeline.set_progress_bar_config(disable=True)
    bare_pipeline.scheduler = EulerDiscreteScheduler.from_config(bare_pipeline.scheduler.config)
    same: dict[str, Any] = {"steps": 8, "sampler": "euler", "cfg_scale": 4.0}
    alike = [replace(one, parameters=replace(one.parameters, **same), priority=2) for one in workload(batch, side)]
    engine = Engine(pool, EngineConfig(batch_limits={2048: batch}))

    def ours() -> None:
        for request in alike:
            engine.admit(request)
        while not engine.idle:
            engine.step()

    best = {"bare": float("inf"), "engine": float("inf")}
    for _ in range(rounds):
        for name, run in (("bare", lambda: stock_batch(bare_pipeline, alike)), ("engine", ours)):
            started = clock()
            run()
            best[name] = min(best[name], clock() - started)
    rates = {name: round(batch / seconds, 3) for name, seconds in best.items()}
    return {**rates, "ratio": round(best["bare"] / best["engine"], 3), "batch": batch}


def goals(results: dict[str, Any], load: float = 0.95) -> list[dict[str, Any]]:
    """What issue and product ask for at that load, and what was measured."""
    rows = {row["server"]: row for row in results["runs"] if row["load"] == load}
    if not {"engine", "static batches", "one at a time"} <= rows.keys():
        return []
    ours = rows["engine"]
    measured = [
        ("p95 over that of static batches", ours["p95"] / rows["static batches"]["p95"], "at most", 0.5),
        ("p95 over that of one at a time", ours["p95"] / rows["one at a time"]["p95"], "at most", 0.35),
        ("P0 p95 over its unloaded p95", ours["p0_p95"] / results["p0_unloaded"]["p95"], "at most", 1.2),
        ("images/s offline over the bare batch loop", results["offline"]["ratio"], "at least", 0.95),
    ]
    return [
        {"goal": name, "measured": round(value, 3), "bound": f"{word} {bound}",
         "met": value <= bound if word == "at most" else value >= bound}
        for name, value, word, bound in measured
    ]  # fmt: skip


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """All results of one run."""
    clock = CLOCKS[chosen.clock]
    pool = ModelPool(PoolConfig())
    pool.ensure(ModelSpec("bench", "1", "sd15", chosen.model))
    results: dict[str, Any] = {"model": Path(chosen.model).name, "device": str(pool.device)}
    results |= {"tasks": chosen.tasks, "side": chosen.side, "clock": chosen.clock}
    results["offline"] = offline(pool, chosen.model, chosen.side, clock)
    results["overhead"] = measure_overhead(pool, chosen.side)
    results |= measure_loads(pool, workload(chosen.tasks, chosen.side), chosen.loads, clock)
    results["goals"] = goals(results)
    pool.close()
    return results


def measure_loads(
    pool: ModelPool, requests: Sequence[SampleRequest], loads: Sequence[float], clock: Callable[[], float]
) -> dict[str, Any]:
    """Every server at every load. Both baselines are measured at every load, because the machine's speed changes."""
    model = pool.get("bench@1")
    assert isinstance(model, DiffusersModel)
    servers: Servers = {
        "one at a time": lambda: OneAtATime(model),
        "static batches": lambda: StaticBatches(model),
        "engine": lambda: EngineServer(pool),
    }
    alone: list[float] = []
    rates: list[float] = []
    runs: list[dict[str, Any]] = []
    for load in loads:
        rates.append(capacity(servers, requests, clock))
        alone += unloaded(servers["engine"](), requests, clock)
        planned = arrivals(requests, rates[-1] * load)
        for name, make in servers.items():
            runs.append({"load": load, "server": name, **summary(serve(make(), planned, clock), planned)})
            print(runs[-1], flush=True)
    alone.sort()
    return {
        "runs": runs,
        "one_at_a_time_per_second": round(sum(rates) / len(rates), 3),
        "p0_unloaded": {"p50": _at(alone, 0.5), "p95": _at(alone, 0.95), "tasks": len(alone)},
    }


def main() -> None:
    """Measure everything, write and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fixtures/models/mini", help="folder of a Stable Diffusion model")
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    chosen = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    results = measure(chosen)
    write(results, chosen.out)
    print(table(results))


if __name__ == "__main__":
    main()

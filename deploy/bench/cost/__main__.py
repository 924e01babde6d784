"""`make bench-cost`: what a picture costs, by process, on the running product; beside it the bare pipeline.

    cases   N tasks over HTTP for each model, number of steps and size: pictures/s, CPU ms a picture by process, and
            counts a picture that do not depend on the machine (transactions, commands, connections, bytes)
    free    the same with an engine whose work is free: the ceiling of a worker process and of the way of a task
    idle    CPU ms a second with nothing to do, and memory after all pictures
    urgent  a P0 task beside 40 waiting P2 tasks, and alone
    bare    the stock pipeline of the same case: as it is (batch 8, all cores), and the best of other batches, threads,
            allocator, layout and runtime

`--short` runs one small case and compares its counts with docs/benchmarks/cost-counts.json, which `--keep` writes.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx

from deploy.bench.cost import bare, report, urgent
from deploy.bench.cost.usage import Usage
from deploy.bench.product import product, ready

# (model, steps, side): tasks
CASES: Final = {
    ("mini-turbo", 1, 256): 100,
    ("mini-turbo", 4, 256): 60,
    ("mini", 20, 256): 30,
    ("mini-turbo", 1, 512): 40,
    ("mini-turbo", 4, 512): 24,
    ("mini", 20, 512): 10,
}
FREE: Final = ("mini-turbo", 1, 256)
FREE_TASKS: Final = 300
FREE_RUN: Final = "deploy.bench.cost.free_run"
SHORT_TASKS: Final = 40
IDLE_S: Final = 20
BACKGROUND_S: Final = 4
PATIENCE_S: Final = 600
CLIENTS: Final = 8

Case = tuple[str, int, int]


class Client:
    """Submits tasks to the product and waits for their end."""

    def __init__(self, var_dir: Path) -> None:
        self.usage = Usage(var_dir)
        address = ready(var_dir)
        headers = {"authorization": f"Bearer {address['api_key']}"}
        self.http = httpx.Client(base_url=str(address["url"]), headers=headers, timeout=60, trust_env=False)

    def close(self) -> None:
        self.http.close()

    def make(self, case: Case, count: int) -> None:
        """Submit `count` tasks and wait until all of them have succeeded."""
        goal = self.usage.ended() + count
        with ThreadPoolExecutor(CLIENTS) as threads:
            list(threads.map(lambda seed: self._submit(case, seed), range(count)))
        deadline = time.monotonic() + PATIENCE_S
        while self.usage.ended() < goal:
            if self.usage.failed() or time.monotonic() > deadline:
                raise SystemExit(f"{self.usage.failed()} tasks failed, {goal - self.usage.ended()} did not end")
            time.sleep(0.1)

    def _submit(self, case: Case, seed: int) -> None:
        model, steps, side = case
        params = {"model": model, "steps": steps, "resolution": f"{side}x{side}", "seed": seed, "cache": False}
        while True:
            answer = self.http.post("/api/v1/image/generate", json={"text": bare.TEXT, "params": params})
            if answer.status_code != 429:
                answer.raise_for_status()
                return
            time.sleep(float(answer.headers.get("retry-after", 1)))


def measured(client: Client, case: Case, count: int) -> dict[str, Any]:
    """One case, after a few uncounted pictures: pictures/s, and CPU ms and counts a picture."""
    client.make(case, 8)
    time.sleep(1)
    background = _background(client)
    cpu, counts, begun = client.usage.cpu_ms(), client.usage.counts(), time.monotonic()
    client.make(case, count)
    seconds = time.monotonic() - begun
    used, counted = client.usage.cpu_ms(), client.usage.counts()
    beside = {name: each * seconds / count for name, each in background.items()}
    return {
        "images": count,
        "images_per_s": round(count / seconds, 3),
        "cpu_ms": _each(used, cpu, count),
        "counts": {name: round(each - beside[name], 2) for name, each in _each(counted, counts, count).items()},
    }


def _background(client: Client) -> dict[str, float]:
    """Counts a second of what the clock does: they are not the pictures'."""
    before = client.usage.counts()
    time.sleep(BACKGROUND_S)
    return _each(client.usage.counts(), before, BACKGROUND_S)


def _each(after: Counter[str], before: Counter[str], count: int) -> dict[str, float]:
    return {name: round((value - before[name]) / count, 2) for name, value in sorted(after.items())}


def idle(client: Client) -> dict[str, float]:
    """CPU ms a second by process with nothing to do."""
    time.sleep(5)
    before = client.usage.cpu_ms()
    time.sleep(IDLE_S)
    return _each(client.usage.cpu_ms(), before, IDLE_S)


def with_product(cases: Sequence[tuple[Case, int]], module: str = "deploy.run") -> dict[str, Any]:
    """All cases on one start of the product, then idle CPU and memory."""
    results: dict[str, Any] = {}
    with product({"LOG_LEVEL": "WARNING"}, module) as var_dir, closing(Client(var_dir)) as client:
        for case, count in cases:
            print(f"{report.name_of(case)}: {count} tasks", flush=True)
            results[report.name_of(case)] = measured(client, case, count)
        if module == "deploy.run":
            print("urgent", flush=True)
            results["urgent"] = urgent.measure(client.http)
        print("idle", flush=True)
        results["idle_cpu_ms_per_s"] = idle(client)
        results["memory_mb"] = {name: round(size, 1) for name, size in client.usage.memory_mb().items()}
    return results


def short_counts() -> dict[str, float]:
    """Counts a picture of one small case, with the engine whose work is free."""
    with product({"LOG_LEVEL": "WARNING"}, FREE_RUN) as var_dir, closing(Client(var_dir)) as client:
        counts: dict[str, float] = measured(client, FREE, SHORT_TASKS)["counts"]
        return counts


def bare_rows(case: Case, count: int) -> list[dict[str, Any]]:
    """Every setting of the bare pipeline for this case."""
    return [vars(setting) | bare.measure(*case, count, setting) for setting in bare.SETTINGS]


def main() -> None:
    """Entry point."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--short", action="store_true", help="compare the counts of one small case with the kept ones")
    parser.add_argument("--keep", action="store_true", help="with --short: write the counts instead")
    parser.add_argument("--cases", default="", help="a part of the names of the cases to run, such as turbo-1-256")
    parser.add_argument("--no-bare", action="store_true", help="without the bare pipeline")
    options = parser.parse_args()
    if options.short:
        raise SystemExit(report.compare_counts(short_counts(), options.keep))
    chosen = [(case, count) for case, count in CASES.items() if options.cases in report.name_of(case)]
    results: dict[str, Any] = {"product": with_product(chosen)}
    results["free"] = with_product([(FREE, FREE_TASKS)], FREE_RUN)
    if not options.no_bare:
        results["bare"] = {report.name_of(case): bare_rows(case, min(count, 24)) for case, count in chosen}
    report.write(results, whole=not options.cases)


if __name__ == "__main__":
    main()

"""Attacks the running product as one customer, and times what another customer gets meanwhile.

    python -m workers.tests.attacks                     every attack
    python -m workers.tests.attacks --only callbacks    those whose names contain the word
    python -m workers.tests.attacks --root FOLDER       against another checkout, to compare
    python -m workers.tests.attacks --report            no bound: only the figures

The victim asks for the list of models and makes small pictures, one after the other, in turn without and with the
attack, so that what else the machine does is in both. Ends with 1 when, under an attack, an answer fails, or the
victim's 95th percentile is more than a tenth and SLACK_S longer than without.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from workers.tests.attacks.acts import ATTACKS, GENERATE, perform
from workers.tests.attacks.product import Product

ROUNDS: Final = 2
CALLS: Final = 200  # of each round
PACE_S: Final = 0.05  # from one call to the next: a round sees two turns of attackers that pause for 5 s
TASKS: Final = 5
PATIENCE_S: Final = 15.0  # of the victim for one answer
GIVE_UP: Final = 3  # answers that did not come, after which a round ends
STANDS_S: Final = 180.0  # until an attack is under way
SLACK_S: Final[dict[str, float]] = {"call": 0.01, "task": 0.2}  # what the machine's own noise may be
HEAD: Final = """| attack | call p50 / p95, ms | under attack | task p50 / p95, s | under attack | failed |
|---|---|---|---|---|---|"""


class Times:
    """The victim's answers, in s; `failed` those that did not come."""

    def __init__(self) -> None:
        self.call: list[float] = []
        self.task: list[float] = []
        self.failed = 0

    def measure(self, http: httpx.Client) -> None:
        gone = self.failed + GIVE_UP
        for _ in range(CALLS):
            if self.failed < gone:
                self._one(http, self.call, "GET", "/api/v1/models")
                time.sleep(PACE_S)
        for number in range(TASKS):
            if self.failed >= gone:
                self.task.append(PATIENCE_S)
                continue
            params = {"resolution": "256x256", "steps": 2, "seed": number, "cache": False}
            self._one(http, self.task, "POST", GENERATE, {"text": "a red circle", "params": params})

    def _one(self, http: httpx.Client, times: list[float], method: str, path: str, body: object = None) -> None:
        began = time.monotonic()
        try:
            answer = http.request(method, path, json=body, headers={"prefer": "wait=14"} if body else {})
            self.failed += answer.status_code != 200
        except httpx.HTTPError:
            self.failed += 1
        times.append(time.monotonic() - began)


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="imagegenx-attacks-") as name:
        (var_dir := Path(name, "var")).mkdir()
        product = Product(var_dir, Path(options.root).resolve())
        try:
            ready, good = product.start(), True
            keys = product.keys()
            print(HEAD, flush=True)
            for attack in (one for one in ATTACKS if options.only in one):
                good = _perform(attack, ready["url"], keys) and good
        finally:
            product.stop()
    return 0 if good or options.report else 1


def _perform(attack: str, url: str, keys: dict[str, str]) -> bool:
    calm, attacked = Times(), Times()
    headers = {"authorization": f"Bearer {keys['victim']}"}
    with httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_S, trust_env=False) as http:
        Times().measure(http)
        for _ in range(ROUNDS):
            calm.measure(http)
            with _under(attack, url, keys["attacker"]):
                attacked.measure(http)
    shown = [f"{1000 * statistics.median(one.call):.1f} / {1000 * p95(one.call):.1f}" for one in (calm, attacked)]
    shown += [f"{statistics.median(one.task):.2f} / {p95(one.task):.2f}" for one in (calm, attacked)]
    print(f"| {attack} | {' | '.join(shown)} | {attacked.failed} |", flush=True)
    return attacked.failed == 0 and all(
        p95(getattr(attacked, kind)) <= 1.1 * p95(getattr(calm, kind)) + slack for kind, slack in SLACK_S.items()
    )


@contextmanager
def _under(attack: str, url: str, key: str) -> Iterator[None]:
    """The attack in a process of its own, for as long as the block lasts."""
    spawn = multiprocessing.get_context("spawn")
    standing = spawn.Event()
    attacker = spawn.Process(target=perform, args=(attack, url, key, standing), daemon=True)
    attacker.start()
    try:
        if not standing.wait(STANDS_S):
            raise TimeoutError(f"{attack}: it is not under way after {STANDS_S:g} s")
        yield
    finally:
        attacker.kill()
        attacker.join()
        time.sleep(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.tests.attacks")
    parser.add_argument("--only", default="")
    parser.add_argument("--root", default=".")
    parser.add_argument("--report", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

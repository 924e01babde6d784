"""A worker's death, hang and leave, with real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

import pytest

from workers.gpu.watchdog import WatchdogConfig

# A worker in miniature: holds its watchdog and does as it is told by its input.
WORKER = """
import json, os, sys, time
from workers.gpu.watchdog import WatchdogHandle, WatchdogConfig
config = json.loads(sys.argv[1]) | {"pid": os.getpid()}
watchdog = WatchdogHandle(WatchdogConfig(**config))
print(watchdog.child.pid, flush=True)
mode = sys.argv[2]
until = time.monotonic() + 30
while time.monotonic() < until:
    if mode == "steps":
        watchdog.alive()
    elif mode == "loads":
        watchdog.loading()
        mode = "hangs"
    elif mode == "begins-then-hangs":
        watchdog.alive()
        mode = "hangs"
    elif mode == "leaves":
        sys.stdin.readline()
        watchdog.leave()
        break
    time.sleep(0.02)
"""


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return time.monotonic()
        time.sleep(0.002)
    raise AssertionError("the condition was not met in time")


@pytest.fixture
def start(redis_url, make_worker_queue):
    children: list[Any] = []

    def run(mode, **changes):
        config = asdict(WatchdogConfig(redis_url, "gpu1-a", 0, "gpu-worker", **changes))
        command = [sys.executable, "-c", WORKER, json.dumps(config), mode]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout is not None
        watchdog = int(child.stdout.readline())
        wait_until(lambda: make_worker_queue().redis.zscore("gq:lease", "gpu1-a"))
        return child, watchdog

    yield run
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stdin.close()


def test_a_killed_workers_tasks_are_back_within_a_moment(start, make_worker_queue, enqueue):
    child, _ = start("steps")
    task = enqueue()
    make_worker_queue("gpu1-a").claim(1)
    child.kill()
    killed = time.monotonic()
    other = make_worker_queue("gpu2-b")
    took = wait_until(lambda: other.state(task)[0] == "w") - killed
    print(f"requeued {took * 1000:.0f} ms after the kill")
    assert took < 0.5
    assert [claimed.task_id for claimed in other.claim(1).tasks] == [task]


def test_the_lease_is_renewed_while_the_worker_works(start, redis):
    start("steps", lease=0.6, beat=0.1)
    for _ in range(10):
        time.sleep(0.1)
        assert redis.zscore("gq:lease", "gpu1-a") > time.time() * 1000


def test_a_hung_worker_is_killed_and_its_tasks_run_again(start, make_worker_queue, enqueue):
    child, _ = start("begins-then-hangs", hang=0.5)
    task = enqueue()
    make_worker_queue("gpu1-a").claim(1)
    wait_until(lambda: make_worker_queue("gpu2-b").state(task)[0] == "w")
    assert child.wait(2) == -signal.SIGKILL


def test_loading_a_model_may_take_longer_than_a_step(start):
    child, _ = start("loads", hang=0.2, loading_hang=1.2)
    time.sleep(0.7)
    assert child.poll() is None
    assert child.wait(3) == -signal.SIGKILL


def test_a_worker_that_leaves_takes_its_lease_with_it(start, redis, enqueue, make_worker_queue):
    task = enqueue()
    make_worker_queue("gpu1-a").claim(1)
    child, watchdog = start("leaves")
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.wait(5) == 0
    assert redis.zscore("gq:lease", "gpu1-a") is None
    assert make_worker_queue().state(task) == ("r", "gpu1-a")  # leaving requeues nothing: the worker did that before
    with pytest.raises(ProcessLookupError):
        os.kill(watchdog, 0)


def test_a_dead_watchdog_is_replaced_before_the_lease_ends(start, redis):
    _, watchdog = start("steps")
    os.kill(watchdog, signal.SIGKILL)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        time.sleep(0.05)
        assert redis.zscore("gq:lease", "gpu1-a") is not None
    assert redis.zscore("gq:lease", "gpu1-a") > time.time() * 1000


def test_both_killed_the_lease_runs_out(start, redis, make_worker_queue, enqueue):
    child, watchdog = start("steps")
    other = make_worker_queue("gpu2-b")
    task = enqueue()
    make_worker_queue("gpu1-a").claim(1)
    redis.delete("gq:grace")
    for pid in (watchdog, child.pid):
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()

    def put_back():
        other.beat()
        return task in other.requeue_dead().requeued

    took = wait_until(put_back) - killed
    print(f"requeued {took * 1000:.0f} ms after both were killed")
    assert took < 1.5

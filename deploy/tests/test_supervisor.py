"""The supervisor with small shell programs: readiness, restarts, stop order, what dead processes leave behind.

Each test forks a process, because a supervisor adopts every orphan of its process.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KEEPER = """
import json, os, signal, sys, time
from pathlib import Path
from deploy.health import alive_file, silence
from deploy.processes import Terminated, DeployError, guard, spawn
from deploy.supervisor import Program, Supervisor

folder = Path(sys.argv[1])
scripts = json.loads(sys.argv[2])
stages = json.loads(sys.argv[3])

def tell(text):
    with (folder / "calls").open("a") as file:
        file.write(text.strip() + "\\n")

def program(name, script):
    start = lambda output: spawn(["sh", "-c", script], output=output, cwd=folder)
    alive = alive_file(folder, name)
    ready = lambda pid: (folder / f"{name}.up").exists()
    return Program(name, start, ready, patience_s=1.0, silence=lambda: silence(alive, time.time()))

def work():
    supervisor = Supervisor(folder, tell)
    supervisor.handle_signals()
    try:
        for name, script in scripts.items():
            supervisor.start(program(name, script))
        supervisor.wait_ready(scripts, 20)
        (folder / "all.up").write_text(json.dumps(supervisor.pids()))
        supervisor.watch()
    except Terminated:
        pass
    finally:
        supervisor.stop(stages)
    return 0

sys.exit(guard(work, last=lambda: None, interrupt_stops=True))
"""
# Writes its name at its end, as a process that finishes its work does.
POLITE = "trap 'echo {0} >> ended; exit 0' TERM; touch {0}.up; while :; do sleep 0.05; done"


def start(folder: Path, scripts: dict[str, str], stages: list[list[str]] | None = None) -> subprocess.Popen[str]:
    """A supervisor over `scripts`, in a process of its own."""
    command = [sys.executable, "-c", KEEPER, str(folder), json.dumps(scripts), json.dumps(stages or [])]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, patience_s: float = 20.0) -> None:
    deadline = time.monotonic() + patience_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_stages_stop_one_after_the_other(tmp_path: Path) -> None:
    process = start(
        tmp_path, {name: POLITE.format(name) for name in ("servers", "web", "worker")}, [["web"], ["worker"]]
    )
    wait_for(tmp_path / "all.up")
    process.terminate()
    assert process.wait(20) == 0
    assert (tmp_path / "ended").read_text().split() == ["web", "worker", "servers"]


def test_dead_programs_are_restarted_and_hanging_ones_killed(tmp_path: Path) -> None:
    stubborn = "trap '' TERM; touch stubborn.up; while :; do sleep 0.05; done"
    process = start(tmp_path, {"polite": POLITE.format("polite"), "stubborn": stubborn})
    wait_for(tmp_path / "all.up")
    pids = json.loads((tmp_path / "all.up").read_text())
    (tmp_path / "polite.up").unlink()
    os.kill(pids["polite"], signal.SIGKILL)
    wait_for(tmp_path / "polite.up")
    process.terminate()
    assert process.wait(20) == 0
    assert not is_running(pids["stubborn"])
    lines = "\n".join(calls(tmp_path))
    assert "polite       was killed by signal 9" in lines
    assert "stubborn     did not stop within 1.0 s; killed" in lines


def test_a_stopped_program_is_killed_and_restarted(tmp_path: Path) -> None:
    beating = "touch hung.up; while :; do touch hung.alive; sleep 0.2; done"
    process = start(tmp_path, {"hung": beating})
    wait_for(tmp_path / "hung.alive")
    wait_for(tmp_path / "all.up")
    pid = json.loads((tmp_path / "all.up").read_text())["hung"]
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.3)  # the touch that was under way
    (tmp_path / "hung.up").unlink()
    minute_ago = time.time() - 61
    os.utime(tmp_path / "hung.alive", (minute_ago, minute_ago))
    wait_for(tmp_path / "hung.up")  # the next one
    assert not is_running(pid)
    lines = "\n".join(calls(tmp_path))
    assert "hung         gave no sign of life for 6" in lines
    process.terminate()
    assert process.wait(20) == 0


def test_a_program_that_keeps_dying_fails_the_start_with_its_log_tail(tmp_path: Path) -> None:
    process = start(tmp_path, {"broken": "echo no colour left in the pot; exit 3", "fine": POLITE.format("fine")})
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "error: broken died 3 times" in errors
    assert "no colour left in the pot" in errors
    assert (tmp_path / "ended").read_text().split() == ["fine"]


@pytest.mark.parametrize("victim", ["front", "child"])
def test_nothing_outlives_a_killed_supervisor(tmp_path: Path, victim: str) -> None:
    process = start(tmp_path, {"one": POLITE.format("one"), "two": f"sleep 1000 & {POLITE.format('two')}"})
    wait_for(tmp_path / "all.up")
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    below = [int(pid) for pid in subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(child)], text=True).split()]
    os.kill(process.pid if victim == "front" else child, signal.SIGKILL)
    process.wait(20)
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in [*below, child]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_orphans_of_a_dead_program_are_killed(tmp_path: Path) -> None:
    script = f"(trap '' TERM; sleep 1000) & echo $! > child; {POLITE.format('parent')}"
    process = start(tmp_path, {"parent": script})
    wait_for(tmp_path / "all.up")
    orphan = int((tmp_path / "child").read_text())
    os.kill(json.loads((tmp_path / "all.up").read_text())["parent"], signal.SIGKILL)
    deadline = time.monotonic() + 15
    while is_running(orphan):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert process.poll() is None
    process.terminate()
    assert process.wait(20) == 0

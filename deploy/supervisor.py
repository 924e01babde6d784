"""Keeps a set of processes alive: starts them together, restarts what dies, stops them in order.

One thread, one loop: `tick()` looks once at everything and never waits. Why this is neither honcho nor the package
`supervisor`: docs/decisions/0003-own-supervisor.md.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from deploy.logs import LogFollower, last_words
from deploy.processes import DeployError, Terminated, children, reap

TICK_S = 0.1
FIRST_RESTARTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # s to wait before each restart in a row; the last repeats
CALM_S = 60.0  # a process that ran this long begins the row anew
START_DEATHS = 3  # deaths before the first readiness that end the start
SAME_SIGNAL_S = 2.0  # requests to stop that come this close together are one
ORPHAN_PATIENCE_S = 5.0  # what a dead process left behind (its watchdog has work to do) may live this long


@dataclass(frozen=True)
class Program:
    """One process to keep alive."""

    name: str
    start: Callable[[IO[bytes]], subprocess.Popen[bytes]]  # given the open log file
    ready: Callable[[int], bool]  # given the process id
    stop_signal: int = signal.SIGTERM
    patience_s: float = 20.0  # from the stop signal to SIGKILL


@dataclass
class Kept:
    """What the supervisor knows of one program."""

    program: Program
    log: LogFollower
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    ready_after: float | None = None
    was_ready: bool = False
    deaths: int = 0
    restart_at: float | None = None


@dataclass
class Supervisor:
    """Owns the processes; `report` gets lines for the terminal, `changed` is called when a process id changed."""

    log_folder: Path
    report: Callable[[str], None]
    changed: Callable[[], None] = lambda: None
    _kept: dict[str, Kept] = field(default_factory=dict)
    _orphans: dict[int, float] = field(default_factory=dict)
    _stop_asked: float | None = None
    _hurry: bool = False

    def heed_signals(self) -> None:
        """Let SIGTERM end the loops at a safe point instead of at any line; a second one hurries the stop."""

        def ask(*_: object) -> None:
            now = time.monotonic()
            # One Ctrl-C may arrive several times: from the terminal, from make and from the process group.
            self._hurry = self._hurry or (self._stop_asked is not None and now - self._stop_asked > SAME_SIGNAL_S)
            self._stop_asked = self._stop_asked or now

        signal.signal(signal.SIGTERM, ask)

    def start(self, program: Program) -> None:
        """Start `program` and keep it alive from now on."""
        path = self.log_folder / f"{program.name}.log"
        kept = Kept(program, LogFollower(program.name, path, self.report))
        self._kept[program.name] = kept
        self._launch(kept)

    def pids(self) -> dict[str, int]:
        """Process id by name, of the processes that run."""
        return {name: kept.process.pid for name, kept in self._kept.items() if kept.process is not None}

    def wait_ready(self, names: Iterable[str], patience_s: float) -> None:
        """Tick until all `names` are ready; DeployError with the log's end when one keeps dying or takes too long."""
        waiting = [self._kept[name] for name in names]
        deadline = time.monotonic() + patience_s
        while late := [kept for kept in waiting if not kept.was_ready]:
            self.tick()
            for kept in late:
                if kept.deaths >= START_DEATHS or time.monotonic() > deadline:
                    why = f"died {kept.deaths} times" if kept.deaths else f"was not ready after {patience_s:.0f} s"
                    raise DeployError(
                        f"{kept.program.name} {why}; the end of {kept.log.path}:\n{last_words(kept.log.path)}"
                    )
            time.sleep(TICK_S)

    def watch(self) -> None:
        """Tick until somebody asks to stop."""
        while True:
            self.tick()
            time.sleep(TICK_S)

    def wait_for(self, process: subprocess.Popen[bytes]) -> int:
        """Tick until a process outside the kept ones ended, and give its exit code."""
        while process.poll() is None:
            self.tick(besides=(process.pid,))
            time.sleep(TICK_S / 5)
        return process.returncode

    def tick(self, besides: Sequence[int] = ()) -> None:
        """Look once at everything. Raises Terminated when a stop was asked for."""
        if self._stop_asked is not None:
            raise Terminated
        for kept in self._kept.values():
            self._look_at(kept)
            kept.log.look()
        self._clear_orphans(besides)

    def stop(self, stages: Sequence[Sequence[str]]) -> None:
        """Stop the processes stage by stage; names not in any stage go last, all at once."""
        named = {name for stage in stages for name in stage}
        for stage in [*stages, [name for name in self._kept if name not in named]]:
            self._stop_together([self._kept[name] for name in stage if name in self._kept])

    def _launch(self, kept: Kept) -> None:
        kept.restart_at = None
        kept.ready_after = None
        kept.started = time.monotonic()
        try:
            with kept.log.path.open("ab") as output:
                kept.process = kept.program.start(output)
        except OSError as error:
            raise DeployError(f"{kept.program.name} can't be started: {error.strerror}.") from error

    def _look_at(self, kept: Kept) -> None:
        now = time.monotonic()
        if kept.process is None:
            if kept.restart_at is not None and now >= kept.restart_at:
                self._launch(kept)
                self.changed()
        elif (code := kept.process.poll()) is not None:
            self._plan_restart(kept, code, now)
        elif kept.ready_after is None and kept.program.ready(kept.process.pid):
            kept.ready_after = now - kept.started
            again = " again" if kept.was_ready else ""
            kept.was_ready = True
            self.report(f"  {kept.program.name:<12} ready{again} ({kept.ready_after:.1f} s)")
            self.changed()

    def _plan_restart(self, kept: Kept, code: int, now: float) -> None:
        if now - kept.started > CALM_S:
            kept.deaths = 0
        pause = FIRST_RESTARTS[min(kept.deaths, len(FIRST_RESTARTS) - 1)]
        kept.deaths += 1
        kept.process = None
        kept.restart_at = now + pause
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        when = f"in {pause:g} s" if pause else "now"
        self.report(f"  {kept.program.name:<12} {how} after {now - kept.started:.1f} s; restarts {when}")

    def _clear_orphans(self, besides: Sequence[int]) -> None:
        """Collect the children that dead processes left to us; end those that do not end by themselves."""
        known = {*self.pids().values(), *besides}
        now = time.monotonic()
        adopted = set(children(os.getpid())) - known
        self._orphans = {pid: self._orphans.get(pid, now) for pid in adopted}
        for pid, since in self._orphans.items():
            if now - since > ORPHAN_PATIENCE_S:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        if adopted:
            reap(tuple(known))

    def _stop_together(self, stage: Sequence[Kept]) -> None:
        running = [kept for kept in stage if kept.process is not None and kept.process.poll() is None]
        for kept in running:
            self._send(kept, kept.program.stop_signal)
        began, killed = time.monotonic(), set[str]()
        while running := [kept for kept in running if kept.process is not None and kept.process.poll() is None]:
            for kept in running:
                waited = time.monotonic() - began
                late = self._hurry or waited > kept.program.patience_s
                if late and kept.program.name not in killed:
                    killed.add(kept.program.name)
                    self.report(f"  {kept.program.name:<12} did not stop within {waited:.1f} s; killed")
                    self._send(kept, signal.SIGKILL)
            time.sleep(0.02)
        for kept in stage:
            kept.process = None

    @staticmethod
    def _send(kept: Kept, number: int) -> None:
        if kept.process is not None:
            with suppress(ProcessLookupError):
                kept.process.send_signal(number)

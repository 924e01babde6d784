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
class ManagedProcess:
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
    _managed: dict[str, ManagedProcess] = field(default_factory=dict)
    _orphans: dict[int, float] = field(default_factory=dict)
    _stop_asked: float | None = None
    _hurry: bool = False

    def handle_signals(self) -> None:
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
        entry = ManagedProcess(program, LogFollower(program.name, path, self.report))
        self._managed[program.name] = entry
        self._launch(entry)

    def pids(self) -> dict[str, int]:
        """Process id by name, of the processes that run."""
        return {name: entry.process.pid for name, entry in self._managed.items() if entry.process is not None}

    def wait_ready(self, names: Iterable[str], patience_s: float) -> None:
        """Tick until all `names` are ready; DeployError with the log's end when one keeps dying or takes too long."""
        waiting = [self._managed[name] for name in names]
        deadline = time.monotonic() + patience_s
        while pending := [entry for entry in waiting if not entry.was_ready]:
            self.tick()
            for entry in pending:
                if entry.deaths >= START_DEATHS or time.monotonic() > deadline:
                    why = f"died {entry.deaths} times" if entry.deaths else f"was not ready after {patience_s:.0f} s"
                    raise DeployError(
                        f"{entry.program.name} {why}; the end of {entry.log.path}:\n{last_words(entry.log.path)}"
                    )
            time.sleep(TICK_S)

    def watch(self) -> None:
        """Tick until somebody asks to stop."""
        while True:
            self.tick()
            time.sleep(TICK_S)

    def wait_for(self, process: subprocess.Popen[bytes]) -> int:
        """Tick until a process that it does not manage ended, and give its exit code."""
        while process.poll() is None:
            self.tick(besides=(process.pid,))
            time.sleep(TICK_S / 5)
        return process.returncode

    def tick(self, besides: Sequence[int] = ()) -> None:
        """Look once at everything. Raises Terminated when a stop was asked for."""
        if self._stop_asked is not None:
            raise Terminated
        for entry in self._managed.values():
            self._check(entry)
            entry.log.follow()
        self._clear_orphans(besides)

    def stop(self, stages: Sequence[Sequence[str]]) -> None:
        """Stop the processes stage by stage; names not in any stage go last, all at once."""
        named = {name for stage in stages for name in stage}
        for stage in [*stages, [name for name in self._managed if name not in named]]:
            self._stop_together([self._managed[name] for name in stage if name in self._managed])

    def _launch(self, entry: ManagedProcess) -> None:
        entry.restart_at = None
        entry.ready_after = None
        entry.started = time.monotonic()
        try:
            with entry.log.path.open("ab") as output:
                entry.process = entry.program.start(output)
        except OSError as error:
            raise DeployError(f"{entry.program.name} can't be started: {error.strerror}.") from error

    def _check(self, entry: ManagedProcess) -> None:
        now = time.monotonic()
        if entry.process is None:
            if entry.restart_at is not None and now >= entry.restart_at:
                self._launch(entry)
                self.changed()
        elif (code := entry.process.poll()) is not None:
            self._plan_restart(entry, code, now)
        elif entry.ready_after is None and entry.program.ready(entry.process.pid):
            entry.ready_after = now - entry.started
            again = " again" if entry.was_ready else ""
            entry.was_ready = True
            self.report(f"  {entry.program.name:<12} ready{again} ({entry.ready_after:.1f} s)")
            self.changed()

    def _plan_restart(self, entry: ManagedProcess, code: int, now: float) -> None:
        if now - entry.started > CALM_S:
            entry.deaths = 0
        pause = FIRST_RESTARTS[min(entry.deaths, len(FIRST_RESTARTS) - 1)]
        entry.deaths += 1
        entry.process = None
        entry.restart_at = now + pause
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        when = f"in {pause:g} s" if pause else "now"
        self.report(f"  {entry.program.name:<12} {how} after {now - entry.started:.1f} s; restarts {when}")

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

    def _stop_together(self, stage: Sequence[ManagedProcess]) -> None:
        running = [entry for entry in stage if entry.process is not None and entry.process.poll() is None]
        for entry in running:
            self._send(entry, entry.program.stop_signal)
        began, killed = time.monotonic(), set[str]()
        while running := [entry for entry in running if entry.process is not None and entry.process.poll() is None]:
            for entry in running:
                waited = time.monotonic() - began
                overdue = self._hurry or waited > entry.program.patience_s
                if overdue and entry.program.name not in killed:
                    killed.add(entry.program.name)
                    self.report(f"  {entry.program.name:<12} did not stop within {waited:.1f} s; killed")
                    self._send(entry, signal.SIGKILL)
            time.sleep(0.02)
        for entry in stage:
            entry.process = None

    @staticmethod
    def _send(entry: ManagedProcess, number: int) -> None:
        if entry.process is not None:
            with suppress(ProcessLookupError):
                entry.process.send_signal(number)

"""Supervises a set of processes: starts them together, restarts those that die, stops them in order.

One thread, one loop: `tick()` checks every process once and never blocks; between two ticks the end of a child or a
signal wakes the loop. Why this is neither honcho nor the package
`supervisor`: docs/decisions/0003-own-supervisor.md.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from deploy.health import HUNG_S
from deploy.logs import LogWatcher, log_tail
from deploy.processes import DeployError, Terminated, children, reap

TICK_S = 0.1
QUIET_TICK_S = 2.0  # when every process is ready: log files are looked at so often
FIRST_RESTARTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # s before each successive restart; the last repeats
CALM_S = 60.0  # a process that ran this long starts again with the first delay
START_DEATHS = 3  # deaths before it was ever ready, after which the start fails
SECOND_LOOK_S = 5.0  # from finding a process silent to killing it
SAME_SIGNAL_S = 2.0  # stop signals this close together count as one
ORPHAN_PATIENCE_S = 5.0  # lifetime of a dead process's children (its watchdog still has work to do)


@dataclass(frozen=True)
class Program:
    """A process to supervise."""

    name: str
    start: Callable[[IO[bytes]], subprocess.Popen[bytes]]  # given the open log file
    ready: Callable[[int], bool]  # given the process id
    stop_signal: int = signal.SIGTERM
    patience_s: float = 20.0  # from the stop signal to SIGKILL
    silence: Callable[[], float] = lambda: 0.0  # seconds since its last sign of life


@dataclass
class ManagedProcess:
    """The state of one program."""

    program: Program
    log: LogWatcher
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    ready_after: float | None = None
    was_ready: bool = False
    deaths: int = 0
    restart_at: float | None = None
    silent_since: float | None = None

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass
class Supervisor:
    """`report` gets lines for the terminal; `changed` is called when a process id has changed."""

    log_folder: Path
    report: Callable[[str], None]
    changed: Callable[[], None] = lambda: None
    _managed: dict[str, ManagedProcess] = field(default_factory=dict)
    _orphans: dict[int, float] = field(default_factory=dict)
    _stop_requested: float | None = None
    _kill_now: bool = False
    _woken: int = -1  # the reading end of a pipe into which the interpreter writes at every signal

    def handle_signals(self) -> None:
        """SIGTERM ends the loops at the next tick instead of at any line; a second one kills what is still running."""

        def request_stop(*_: object) -> None:
            now = time.monotonic()
            # One Ctrl-C may arrive several times: from the terminal, from make and from the process group.
            if self._stop_requested is not None and now - self._stop_requested > SAME_SIGNAL_S:
                self._kill_now = True
            self._stop_requested = self._stop_requested or now

        self._woken, written = os.pipe()
        for end in (self._woken, written):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a signal without a handler wakes nobody
        signal.signal(signal.SIGTERM, request_stop)

    def start(self, program: Program) -> None:
        """Start and supervise `program`."""
        path = self.log_folder / f"{program.name}.log"
        managed = ManagedProcess(program, LogWatcher(program.name, path, self.report))
        self._managed[program.name] = managed
        self._launch(managed)

    def pids(self) -> dict[str, int]:
        """Process ids of the running processes, by name."""
        return {name: managed.process.pid for name, managed in self._managed.items() if managed.process is not None}

    def wait_ready(self, names: Iterable[str], patience_s: float) -> None:
        """Tick until all `names` are ready. Raises DeployError with the end of the log of one that keeps dying or is
        too slow.
        """
        waiting = [self._managed[name] for name in names]
        deadline = time.monotonic() + patience_s
        while pending := [managed for managed in waiting if not managed.was_ready]:
            self.tick()
            for managed in pending:
                if managed.deaths >= START_DEATHS or time.monotonic() > deadline:
                    deaths, path = managed.deaths, managed.log.path
                    why = f"died {deaths} times" if deaths else f"was not ready after {patience_s:.0f} s"
                    raise DeployError(f"{managed.program.name} {why}; the end of {path}:\n{log_tail(path)}")
            self._pause(TICK_S)

    def watch(self) -> None:
        """Tick until a stop signal arrives."""
        while True:
            self.tick()
            self._pause(QUIET_TICK_S if self._is_quiet() else TICK_S)

    def _is_quiet(self) -> bool:
        """All are ready: until one ends there is nothing to do."""
        return not self._orphans and all(managed.ready_after is not None for managed in self._managed.values())

    def _pause(self, seconds: float) -> None:
        """Until a child ends or a signal arrives, at most so long."""
        if self._woken < 0:
            return time.sleep(seconds)
        if select.select([self._woken], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                while os.read(self._woken, 4096):
                    continue
        return None

    def wait_for(self, process: subprocess.Popen[bytes]) -> int:
        """Tick until an unsupervised child has ended; its exit code."""
        while process.poll() is None:
            self.tick(others=(process.pid,))
            self._pause(TICK_S / 5)
        return process.returncode

    def tick(self, others: Sequence[int] = ()) -> None:
        """Check every process once. Raises Terminated after a stop signal."""
        if self._stop_requested is not None:
            raise Terminated
        for managed in self._managed.values():
            self._check(managed)
            managed.log.check()
        self._clear_orphans(others)

    def stop(self, stages: Sequence[Sequence[str]]) -> None:
        """Stop the processes stage by stage; those in no stage last, together."""
        named = {name for stage in stages for name in stage}
        for stage in [*stages, [name for name in self._managed if name not in named]]:
            self._stop_together([self._managed[name] for name in stage if name in self._managed])

    def _launch(self, managed: ManagedProcess) -> None:
        managed.restart_at = None
        managed.ready_after = None
        managed.started = time.monotonic()
        try:
            with managed.log.path.open("ab") as output:
                managed.process = managed.program.start(output)
        except OSError as error:
            raise DeployError(f"{managed.program.name} can't be started: {error.strerror}.") from error

    def _check(self, managed: ManagedProcess) -> None:
        now = time.monotonic()
        if managed.process is None:
            if managed.restart_at is not None and now >= managed.restart_at:
                self._launch(managed)
                self.changed()
        elif (code := managed.process.poll()) is not None:
            self._plan_restart(managed, code, now)
        elif managed.ready_after is None and managed.program.ready(managed.process.pid):
            managed.ready_after = now - managed.started
            again = " again" if managed.was_ready else ""
            managed.was_ready = True
            self.report(f"  {managed.program.name:<12} ready{again} ({managed.ready_after:.1f} s)")
            self.changed()
        elif managed.ready_after is not None:
            self._kill_if_hung(managed, managed.process, now)

    def _kill_if_hung(self, managed: ManagedProcess, process: subprocess.Popen[bytes], now: float) -> None:
        """The second look is for a machine that slept: all were silent then."""
        silent = managed.program.silence()
        if silent <= HUNG_S:
            managed.silent_since = None
        elif managed.silent_since is None:
            managed.silent_since = now
        elif now - managed.silent_since > SECOND_LOOK_S:
            self.report(f"  {managed.program.name:<12} gave no sign of life for {silent:.0f} s: killed")
            managed.silent_since = None
            process.kill()

    def _plan_restart(self, managed: ManagedProcess, code: int, now: float) -> None:
        if now - managed.started > CALM_S:
            managed.deaths = 0
        pause = FIRST_RESTARTS[min(managed.deaths, len(FIRST_RESTARTS) - 1)]
        managed.deaths += 1
        managed.process = None
        managed.restart_at = now + pause
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        when = f"in {pause:g} s" if pause else "now"
        self.report(f"  {managed.program.name:<12} {how} after {now - managed.started:.1f} s; restarts {when}")

    def _clear_orphans(self, others: Sequence[int]) -> None:
        """Reap the children of dead processes; kill those that do not end within ORPHAN_PATIENCE_S."""
        known = {*self.pids().values(), *others}
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
        running = [managed for managed in stage if managed.is_running()]
        for managed in running:
            self._send(managed, managed.program.stop_signal)
        began, killed = time.monotonic(), set[str]()
        while running := [managed for managed in running if managed.is_running()]:
            for managed in running:
                waited = time.monotonic() - began
                overdue = self._kill_now or waited > managed.program.patience_s
                if overdue and managed.program.name not in killed:
                    killed.add(managed.program.name)
                    self.report(f"  {managed.program.name:<12} did not stop within {waited:.1f} s; killed")
                    self._send(managed, signal.SIGKILL)
            time.sleep(0.02)
        for managed in stage:
            managed.process = None

    @staticmethod
    def _send(managed: ManagedProcess, number: int) -> None:
        if managed.process is not None:
            with suppress(ProcessLookupError):
                managed.process.send_signal(number)

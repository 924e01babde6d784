"""Child processes that never outlive their parent.

Two features of Linux are used:

- *parent-death signal*: the kernel sends a child a chosen signal when the thread that forked it ends, even by `kill
-9`; - *child subreaper*: orphans become children of this process instead of init's, so `descendants()` finds all of
them.

`guard()` combines them. The process that the user started (the front) forks a main process that does the work.
Whichever of the two dies first, the other cleans up: the main process gets SIGTERM when the front dies; the front kills
all processes left by a dead main process.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class DeployError(Exception):
    """The product can't start or continue; the text says in one sentence what to do."""


class Terminated(BaseException):
    """This process received SIGTERM. Not an Exception: only `finally` and the entry points handle it."""


@dataclass(frozen=True)
class Account:
    """The operating-system user of a server: Postgres refuses to run as root."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """None: this process's user; for root an existing unprivileged account."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise DeployError(
        "Postgres refuses to run as root and this machine has neither a user 'postgres' nor 'nobody': add one of them."
    )


def die_with_parent(death_signal: int) -> None:
    """Let the kernel send `death_signal` to this process when the thread that forked it ends."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every orphan below this process."""
    if _libc is not None:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@dataclass(frozen=True)
class SpawnOptions:
    """`account`: the child's user, None: that of this process. `death_signal`: sent to the child when this process
    dies. `own_session`: the terminal's Ctrl-C does not reach the child.
    """

    account: Account | None = None
    death_signal: int = signal.SIGTERM
    own_session: bool = True
    pass_fds: tuple[int, ...] = ()


def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    output: int | IO[bytes] | None = None,
    errors: int | IO[bytes] | None = None,
    stdin: int | None = subprocess.DEVNULL,
    options: SpawnOptions = SpawnOptions(),  # frozen
) -> subprocess.Popen[bytes]:
    """Start a child that does not outlive this process; only to be called from the main thread.

    `output` receives stdout and stderr; without it stdout is inherited and `errors` receives stderr.
    """
    account = options.account
    identity: dict[str, Any] = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    return subprocess.Popen(
        [str(part) for part in argv],
        env=None if env is None else dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=output,
        stderr=errors if output is None else subprocess.STDOUT,
        start_new_session=options.own_session,
        preexec_fn=partial(_bind_to_parent, os.getpid(), options.death_signal),  # safe: this program has one thread
        pass_fds=options.pass_fds,
        **identity,
    )


def _bind_to_parent(parent: int, death_signal: int) -> None:
    """Runs in the child, after the change of user, which clears the setting. The parent may have died before."""
    die_with_parent(death_signal)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def stop(process: subprocess.Popen[bytes], stop_signal: int = signal.SIGTERM, patience_s: float = 10.0) -> bool:
    """Send `stop_signal`, and after `patience_s` SIGKILL. Returns whether it ended without SIGKILL."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(stop_signal)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
    return True


def children(pid: int) -> list[int]:
    """Process ids of the direct children of `pid`, with zombies; empty if `pid` does not exist."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found.extend(int(child) for child in task.read_text().split())
    return found


def descendants(pid: int) -> Iterator[int]:
    """Process ids of all descendants of `pid`, parents before children."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def reap(known: Sequence[int] = ()) -> None:
    """Reap adopted orphans, but not `known` children, which belong to their Popen objects."""
    for child in set(children(os.getpid())) - set(known):
        with suppress(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


def kill_descendants(patience_s: float = 5.0) -> None:
    """SIGKILL all descendants until none is left or `patience_s` has passed."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        below = list(descendants(os.getpid()))
        if not below:
            return
        for pid in below:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        reap()
        time.sleep(0.02)


def raise_terminated(_signal: int, _frame: FrameType | None) -> None:
    """Signal handler: the first SIGTERM becomes an exception; later ones are ignored during the clean-up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """Signal handler that does nothing. Unlike SIG_IGN it is not inherited by child programs."""


def guard(work: Callable[[], int], *, last: Callable[[], None], interrupt_stops: bool) -> int:
    """Run `work` in a forked main process and return its exit code; both processes run `last` at their very end.

    SIGTERM and SIGHUP to this process are forwarded as SIGTERM and raise `Terminated` there. Ctrl-C does the same with
    `interrupt_stops` (the main process then has its own session); without it, Ctrl-C is left to the command that `work`
    runs.
    """
    adopt_orphans()
    front = os.getpid()
    child = os.fork()
    if child == 0:
        _run_main_process(front, work, last, own_session=interrupt_stops)
    with suppress(ProcessLookupError):
        for number in (signal.SIGTERM, signal.SIGHUP, *([signal.SIGINT] if interrupt_stops else [])):
            signal.signal(number, lambda *_: os.kill(child, signal.SIGTERM))
    if not interrupt_stops:
        signal.signal(signal.SIGINT, _ignore)
    try:
        _, status = os.waitpid(child, 0)
    finally:
        kill_descendants()
        last()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _run_main_process(front: int, work: Callable[[], int], last: Callable[[], None], *, own_session: bool) -> None:
    """The child's side of `guard`; does not return."""
    code = 1
    try:
        if own_session:
            os.setsid()
        signal.signal(signal.SIGINT, _ignore)
        signal.signal(signal.SIGTERM, raise_terminated)
        die_with_parent(signal.SIGTERM)
        adopt_orphans()
        if os.getppid() == front:
            code = work()
    except Terminated:
        code = 128 + signal.SIGTERM
    except DeployError as error:
        print(f"error: {error}", file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        kill_descendants()
        last()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

"""Child processes that never outlive us.

Linux offers two promises, both used here:

- *parent-death signal*: the kernel sends a child a signal of our choice when the thread that made it ends, even by
  `kill -9`;
- *child subreaper*: orphans below us become our children instead of init's, so `descendants()` finds every one of them.

`guard()` combines them. The process that the user sees (the front) forks a keeper that does the work. Whichever of the
two dies first, the other one still cleans up: the keeper gets SIGTERM when the front dies; the front ends what a dead
keeper left behind.
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
from pathlib import Path
from types import FrameType
from typing import IO, Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class DeployError(Exception):
    """The product can't start or go on here; the text is one sentence that tells the reader what to do."""


class Terminated(BaseException):
    """SIGTERM reached this process. Not an Exception: only `finally` and the entry points are meant to see it."""


@dataclass(frozen=True)
class Account:
    """An operating-system user that a server runs as, because Postgres refuses to run as root."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """The account for servers: None for ourselves, an existing unprivileged one when we are root."""
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
    """Ask the kernel for `death_signal` when the thread that made this process ends."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every orphan below this process."""
    if _libc is not None:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    output: int | IO[bytes] | None = None,
    errors: int | IO[bytes] | None = None,
    account: Account | None = None,
    death_signal: int = signal.SIGTERM,
    own_session: bool = True,
    stdin: int | None = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child that gets `death_signal` when we die; call it from the main thread only.

    `output` receives stdout and stderr; without it stdout is inherited and `errors` receives stderr. With
    `own_session` the terminal's Ctrl-C does not reach the child.
    """
    parent = os.getpid()

    def bind_to_parent() -> None:
        # After the change of user, because that clears the setting; the parent may have died before it.
        die_with_parent(death_signal)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    identity: dict[str, Any] = (
        {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    )
    return subprocess.Popen(
        [str(part) for part in argv],
        env=None if env is None else dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=output,
        stderr=errors if output is None else subprocess.STDOUT,
        start_new_session=own_session,
        preexec_fn=bind_to_parent,  # safe: this program has one thread
        pass_fds=tuple(pass_fds),
        **identity,
    )


def stop(process: subprocess.Popen[bytes], stop_signal: int = signal.SIGTERM, patience_s: float = 10.0) -> bool:
    """End `process`: `stop_signal`, then after `patience_s` SIGKILL. True when it went by itself."""
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
    """Process ids of the direct children of `pid`, zombies included; empty when it is gone."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found.extend(int(child) for child in task.read_text().split())
    return found


def descendants(pid: int) -> Iterator[int]:
    """Process ids of everything below `pid`, parents before children."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def reap(known: Sequence[int] = ()) -> None:
    """Collect the exit statuses of adopted orphans; `known` children belong to their Popen objects."""
    for child in set(children(os.getpid())) - set(known):
        with suppress(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


def kill_descendants(patience_s: float = 5.0) -> None:
    """SIGKILL everything below this process until nothing is left, or `patience_s` is over."""
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
    """Signal handler: the first SIGTERM becomes an exception, later ones are ignored while we clean up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def _swallow(_signal: int, _frame: FrameType | None) -> None:
    """Signal handler that does nothing. Unlike SIG_IGN it is not inherited by the programs that we start."""


def guard(work: Callable[[], int], *, last: Callable[[], None], interrupt_stops: bool) -> int:
    """Run `work` in a keeper process and return its exit code; both run `last` at their very end, whatever happened.

    SIGTERM and SIGHUP to this process reach the keeper as SIGTERM, where they raise `Terminated`. Ctrl-C does the same
    with `interrupt_stops` (the keeper then has a session of its own); without it, Ctrl-C is left to the command that
    `work` runs.
    """
    adopt_orphans()
    front = os.getpid()
    keeper = os.fork()
    if keeper == 0:
        _become_keeper(front, work, last, own_session=interrupt_stops)
    with suppress(ProcessLookupError):
        for number in (signal.SIGTERM, signal.SIGHUP, *([signal.SIGINT] if interrupt_stops else [])):
            signal.signal(number, lambda *_: os.kill(keeper, signal.SIGTERM))
    if not interrupt_stops:
        signal.signal(signal.SIGINT, _swallow)
    try:
        _, status = os.waitpid(keeper, 0)
    finally:
        kill_descendants()
        last()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _become_keeper(front: int, work: Callable[[], int], last: Callable[[], None], *, own_session: bool) -> None:
    """The child's side of `guard`; never returns."""
    code = 1
    try:
        if own_session:
            os.setsid()
        signal.signal(signal.SIGINT, _swallow)
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

"""Creates or updates the virtual environment: `python3 deploy/install.py .venv`.

Run by the machine's Python before anything is installed: standard library only, in a syntax that Python 3.7 can parse,
so that it can say that it is too old.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time

OLDEST = (3, 11)
FREE_BYTES_NEEDED = 5 << 30  # torch and its dependencies take 2.6 GB, with CUDA about twice that
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHOWN = ("Collecting", "Building", "Installing", "Successfully", "ERROR", "error", "  error")
QUIET_S = 15  # pip says nothing for minutes while it unpacks; after so many seconds we do
STAMP = "installed.sha256"
# (pattern in pip's output, advice); the first match is shown.
CAUSES = (
    (
        "No space left on device",
        "The disk is full: free some space and start again; what is installed already is installed_state.",
    ),
    (
        r"command '\S*(gcc|g\+\+|cc|c\+\+|clang)' failed|No such file or directory: '\S*(gcc|g\+\+|cc|c\+\+|clang)'|"
        r"Unknown compiler|No CMAKE_C_COMPILER could be found|can't find Rust compiler",
        "A package has no ready build for this Python and machine, and building it needs a compiler: install one "
        "(Debian and Ubuntu: apt install build-essential python3-dev), or use Python 3.11 to 3.13 on x86-64 or arm64.",
    ),
    (
        "No matching distribution found",
        "A package of requirements.txt does not exist for this Python and machine: use Python 3.11 to 3.13 on Linux.",
    ),
    (
        "Temporary failure in name resolution|Failed to establish a new connection|Network is unreachable|ProxyError",
        "The package index can't be reached: check the network, or pip's own settings for a proxy or a mirror.",
    ),
    (
        "Permission denied",
        "Files of the environment belong to another user: remove the folder or choose another with VENV.",
    ),
)


class InstallError(Exception):
    """The environment can't be created; the text says in one sentence what to do."""


def main(venv: str) -> None:
    """Update `venv` to requirements.txt and this Python."""
    if sys.version_info < OLDEST:
        found, oldest = (f"{version[0]}.{version[1]}" for version in (sys.version_info, OLDEST))
        raise InstallError(
            f"ImageGenX needs Python {oldest} or newer, but {sys.executable} is Python {found}: install a newer one, "
            "or name it: make run PYTHON=/path/to/python3.11"
        )
    venv = os.path.abspath(venv)
    expected = required_state()
    if installed_state(venv) == expected:
        return
    free = shutil.disk_usage(os.path.dirname(venv)).free
    if free < FREE_BYTES_NEEDED and not os.path.exists(venv):
        raise InstallError(
            f"The disk has {free / 1e9:.1f} GB left, but the Python packages need {FREE_BYTES_NEEDED / 1e9:.0f} GB: "
            "free some space, or put the environment elsewhere: make run VENV=/other/disk/venv"
        )
    print(f"Installing the Python packages into {venv} (once; a few minutes) ...", flush=True)
    make_environment(venv)
    install(venv)
    with open(os.path.join(venv, STAMP), "w") as stamp:
        stamp.write(expected)


def required_state() -> str:
    """A digest of the pins and this Python's version."""
    digest = hashlib.sha256(repr((sys.version_info[:2], requirement_files())).encode())
    for path in [*requirement_files(), *(os.path.join(folder, "pyproject.toml") for folder in own_packages())]:
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def requirement_files() -> list[str]:
    """The base set, and with GPU=1 the packages for a GPU."""
    names = ["requirements.txt"] + (["deploy/requirements-gpu.txt"] if os.environ.get("GPU") == "1" else [])
    return [os.path.join(ROOT, name) for name in names]


def own_packages() -> list[str]:
    """Folders of this repository that are installed, so that a change in them needs no new installation."""
    return [os.path.join(ROOT, "deploy", "client")]


def installed_state(venv: str) -> str | None:
    """The state for which `venv` was last installed, or None."""
    try:
        with open(os.path.join(venv, STAMP)) as stamp:
            return stamp.read()
    except OSError:
        return None


def make_environment(venv: str) -> None:
    """With pip if Python can bootstrap it, else without: the machine's pip then installs into it."""
    if os.path.exists(os.path.join(venv, "bin", "python")):
        return
    if run([sys.executable, "-m", "venv", venv], quiet=True)[0] == 0:
        return
    # Debian packages pip's bootstrap separately (python3-venv); an empty environment works without it.
    shutil.rmtree(venv, ignore_errors=True)
    code, text = run([sys.executable, "-m", "venv", "--without-pip", venv], quiet=True)
    if code != 0:
        raise InstallError(cause(text) or "Python can't make a virtual environment here: install python3-venv.")


def install(venv: str) -> None:
    """Install all pins in one call of pip: torch must be resolved together with the others."""
    python = os.path.join(venv, "bin", "python")
    command = [python, "-m", "pip"]
    if run([*command, "--version"], quiet=True)[0] != 0:
        command = [sys.executable, "-m", "pip", "--python", python]
        if run([*command, "--version"], quiet=True)[0] != 0:
            raise InstallError(
                "This Python has no pip: install it (Debian and Ubuntu: apt install python3-pip python3-venv)."
            )
    command += ["install", "--disable-pip-version-check", "--no-input"]
    pip_install([*command, *(word for path in requirement_files() for word in ("-r", path))])
    # What they need is pinned in requirements.txt, also the setuptools that builds them.
    for folder in own_packages():
        pip_install([*command, "--no-deps", "--no-build-isolation", "-e", folder])


def pip_install(command: list[str]) -> None:
    """Run pip. Raises InstallError."""
    code, text = run(command)
    if code != 0:
        raise InstallError(cause(text) or "pip could not install the packages; see its message above.")


def run(command: list[str], quiet: bool = False) -> tuple[int, str]:
    """Run `command` and return (exit code, output); the output is also printed unless `quiet`."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    lines = []
    began = time.monotonic()
    shown = [began]
    ended = threading.Event()

    def break_silence() -> None:
        while not ended.wait(QUIET_S / 5):
            now = time.monotonic()
            if now - shown[0] >= QUIET_S:
                shown[0] = now
                print(f"  still working, {now - began:.0f} s so far ...", flush=True)

    if not quiet:
        threading.Thread(target=break_silence, daemon=True).start()
    assert process.stdout is not None  # a pipe, as asked for
    for line in process.stdout:
        lines.append(line)
        # of pip's several lines per package only the one for its download is shown
        if not quiet and line.startswith(SHOWN):
            shown[0] = time.monotonic()
            print("  " + line.split(" (from ")[0].rstrip()[:160], flush=True)
    ended.set()
    return process.wait(), "".join(lines)


def cause(text: str) -> str | None:
    """The advice for the first known cause in pip's output, or None."""
    for pattern, sentence in CAUSES:
        if re.search(pattern, text):
            return sentence
    return None


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else ".venv")
    except InstallError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: The environment can't be made: {error}.")
    except KeyboardInterrupt:
        sys.exit("stopped; the next start goes on from here")

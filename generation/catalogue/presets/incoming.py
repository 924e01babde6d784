"""Imports that were asked for in the admin: files that an operator has put into MODELS_DIR/.incoming, each imported by
a `manage.py models import` of its own, because what reads it brings torch. How far it is stands in the row.

    asked -> running -> done | failed          running, silent for STALE_S -> failed: its process died
"""

import logging
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from django.db import Error, close_old_connections
from django.utils import timezone

from generation.catalogue.models import ModelImport
from generation.catalogue.presets.memory import human
from generation.catalogue.presets.registry import folder_of, slug

STALE_S: Final = 60.0  # a running import writes every NOTE_S
NOTE_S: Final = 2.0
_MOST_SAID: Final = 2000  # characters of what the command says
State = ModelImport.State
logger = logging.getLogger(__name__)


def folder() -> Path:
    """Where operators put what they have."""
    return folder_of(".incoming")


def waiting_files() -> list[str]:
    """What lies there."""
    try:
        return sorted(entry.name for entry in folder().iterdir() if not entry.name.startswith("."))
    except OSError:
        return []


def claim() -> ModelImport | None:
    """An import that waits, now ours; None: there is none. Those whose process has died have failed."""
    silent = ModelImport.objects.filter(state=State.RUNNING, at__lt=timezone.now() - timedelta(seconds=STALE_S))
    died = "Its process ended before it was done. Look whether the model is there, then import it again."
    silent.update(state=State.FAILED, note=died, at=timezone.now())
    for wanted in ModelImport.objects.filter(state=State.ASKED).order_by("id"):
        if ModelImport.objects.filter(pk=wanted.pk, state=State.ASKED).update(state=State.RUNNING, at=timezone.now()):
            return wanted
    return None


def run(wanted: ModelImport) -> None:
    """Import what was claimed. Raises nothing."""
    try:
        code, said = _imported(wanted)
    except OSError as error:
        logger.exception("the import of %s failed", wanted.file)
        code, said = 1, f"{type(error).__name__}: {error}"
    _write(wanted, State.FAILED if code else State.DONE, said)


def _imported(wanted: ModelImport) -> tuple[int, str]:
    """Exit status of the command, and what it said."""
    source = folder() / wanted.file
    if wanted.file not in waiting_files():
        return 1, f"There is no {wanted.file} in {folder()}."
    command = [sys.executable, "-m", "django", "models", "import", str(source), *_options(wanted)]
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "imagegenx_site.settings"}
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    staging, whole = folder_of(f".{wanted.name or slug(source.stem)}.importing"), max(1, _bytes_of(source))
    began = time.monotonic()
    while True:
        try:
            said, _ = child.communicate(timeout=NOTE_S)
            return child.returncode, said.strip().removeprefix("CommandError: ")[-_MOST_SAID:]
        except subprocess.TimeoutExpired:
            part = min(0.99, _bytes_of(staging) / whole)
            seconds = time.monotonic() - began
            _write(wanted, State.RUNNING, f"{part:.0%} of {human(whole)} written, after {seconds:.0f} s")


def _options(wanted: ModelImport) -> list[str]:
    named = {
        "--name": wanted.name,
        "--family": wanted.family,
        "--like": wanted.like,
        "--control-type": wanted.control_type,
        "--parts": wanted.parts,
    }
    found = [f"{option}={value}" for option, value in named.items() if value]
    names = [str(name).lstrip("-") for name in wanted.models_for]
    found += ["--for", *names] if names else []
    return [*found, "--replace"] if wanted.replace else found


def _bytes_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    try:
        return sum(one.stat().st_size for one in files if one.is_file())
    except OSError:  # it moves while we look
        return 0


def _write(wanted: ModelImport, state: str, note: str) -> None:
    try:
        ModelImport.objects.filter(pk=wanted.pk).update(state=state, note=note, at=timezone.now())
    except Error as error:
        close_old_connections()
        logger.error("the import of %s is not noted: %s", wanted.file, error)

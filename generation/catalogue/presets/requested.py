"""Pulls that were asked for in the admin: noted in the preset's row, run by a housekeeping process, which writes there
how far it is. One that died with its process is taken up again, and goes on where the files are.

    asked -> running -> done | failed          running, silent for STALE_S -> running, elsewhere
"""

import logging
import threading
import time
from datetime import timedelta
from typing import Final

from django.db import Error, close_old_connections
from django.db.models import Q
from django.utils import timezone

from generation.catalogue.models import ModelPreset
from generation.catalogue.presets import pulling
from generation.catalogue.presets.hub import PullError
from generation.catalogue.presets.memory import human

STALE_S: Final = 60.0  # a running pull writes every NOTE_S
NOTE_S: Final = 2.0
Pull = ModelPreset.Pull
logger = logging.getLogger(__name__)


def ask(name: str, *, licence_accepted: bool) -> None:
    """Note that a preset is wanted, with what it needs. Raises PullError for one that cannot be had so."""
    presets = pulling.ordered([name])
    pulling.check_licences(presets, licence_accepted)
    if any(preset.kind == ModelPreset.Kind.SUPERRES for preset in presets):
        raise PullError(f"{name} is converted by torch, which this process has not: use manage.py models pull {name}.")
    rows = ModelPreset.objects.filter(name=name).exclude(pull_state=Pull.RUNNING)
    rows.update(pull_state=Pull.ASKED, pull_note="", pull_at=timezone.now())


def claim() -> ModelPreset | None:
    """A pull that waits, or whose process has died, now ours; None: there is none."""
    stale = Q(pull_state=Pull.RUNNING, pull_at__lt=timezone.now() - timedelta(seconds=STALE_S))
    for preset in ModelPreset.objects.filter(Q(pull_state=Pull.ASKED) | stale).order_by("pull_at"):
        same = ModelPreset.objects.filter(pk=preset.pk, pull_state=preset.pull_state, pull_at=preset.pull_at)
        if same.update(pull_state=Pull.RUNNING, pull_note="", pull_at=timezone.now()):
            return preset
    return None


def run(preset: ModelPreset) -> None:
    """Pull a claimed preset, and what it needs; whoever asked has accepted the licences. Raises nothing."""
    notes = _Notes(preset)
    wishes = pulling.PullWishes(accept_licence=True, progress=notes.progress)
    try:
        done = [pulling.pull(one, wishes) for one in pulling.ordered([preset.name])]
        notes.write(Pull.DONE, done[-1])
    except PullError as error:
        notes.write(Pull.FAILED, str(error))
    except Exception as error:
        logger.exception("the pull of %s failed", preset.name)
        notes.write(Pull.FAILED, f"{type(error).__name__}: {error}")


class _Notes:
    """How far a pull is, for the admin. `progress` is called from several threads."""

    def __init__(self, preset: ModelPreset) -> None:
        self._preset = preset
        self._files: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._next = 0.0

    def progress(self, file: str, here: int, whole: int) -> None:
        with self._lock:
            self._files[file] = (here, whole)
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + NOTE_S
            done, total = (sum(values) for values in zip(*self._files.values(), strict=True))
        self.write(Pull.RUNNING, f"{human(done)} of {human(total)} ({done / max(total, 1):.0%})")

    def write(self, state: str, note: str) -> None:
        try:
            rows = ModelPreset.objects.filter(pk=self._preset.pk)
            rows.update(pull_state=state, pull_note=note[:2000], pull_at=timezone.now())
        except Error as error:
            close_old_connections()
            logger.error("the pull of %s is not noted: %s", self._preset.name, error)

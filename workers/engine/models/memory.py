"""How full a device is, and how much of it models may take. Bytes."""

from __future__ import annotations

import ctypes
from pathlib import Path

import psutil
import torch

MODELS_PART = {"cpu": 0.5, "cuda": 0.6}  # of the device, where the settings name no bound: the rest is for the steps
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def used_and_total(device: torch.device) -> tuple[int, int]:
    """What was in use at most since the last look, and what there is. On a CPU: what this process has in use now, out
    of what it may have."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        strangers = total - free - torch.cuda.memory_reserved(device)
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return strangers + peak, total
    return psutil.Process().memory_info().rss, _allowed()


def load(device: torch.device) -> float:
    """The part of the device's memory that is in use, 0 to 1."""
    used, total = used_and_total(device)
    return used / total


def measured_budget(device: torch.device) -> int:
    """What models may take of this device."""
    return int(used_and_total(device)[1] * MODELS_PART[device.type])


def give_back_freed() -> None:
    """Give the system back what this process has freed and glibc keeps; nothing where the C library is another."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _allowed() -> int:
    """The machine's memory, or what the control group of a container allows if that is less."""
    whole = psutil.virtual_memory().total
    try:
        bound = _CGROUP.read_text().strip()
    except OSError:
        return whole
    return min(whole, int(bound)) if bound.isdigit() else whole

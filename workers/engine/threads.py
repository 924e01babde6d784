"""How many CPU threads a forward pass is spread over, and how many decoders run beside it."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

BESIDE_A_GPU = 4  # the CPU only launches kernels there, and steps what is kept on it
MOST_DECODERS = 8  # each holds the activations of a picture
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def engine_threads(device: torch.device) -> int:
    """One for each physical core that this process may use; more than that wait for each other. A container's share of
    the processor counts, which torch does not see."""
    cores = min(torch.get_num_threads(), _processors())
    return max(1, cores if device.type == "cpu" else min(cores, BESIDE_A_GPU))


def decoder_threads(device: torch.device) -> int:
    """One for each processor that this process may use, where the CPU computes and has more than one."""
    processors = min(_processors(), MOST_DECODERS)
    return processors if device.type == "cpu" and processors > 1 else 0


def _processors() -> int:
    """Those that this process may use; what its control group grants is rounded up."""
    found = len(os.sched_getaffinity(0))
    try:
        quota, period = _QUOTA.read_text().split()
    except (OSError, ValueError):
        return found
    return min(found, math.ceil(int(quota) / int(period))) if quota.isdigit() else found

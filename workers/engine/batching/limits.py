"""How many rows a forward pass may have: by size of the picture, lowered when memory is short, raised again.

The table by size is GpuConfig.batch_limits (imagegenx_site/config.py, setting BATCH_LIMITS); calibration.py lowers it
to what is worth while on this device; scheduler.py chooses the members of a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from generation.queue.values import BatchKey

RECOVER_AFTER = 200  # forward passes without trouble before a lowered limit is doubled


def samples_for_size(width: int, height: int, limits: Mapping[int, int]) -> int:
    """Largest batch for a picture by its longer side: the limit of the next size in the table, 1 above all."""
    longer = max(width, height)
    fitting = [side for side in sorted(limits) if side >= longer]
    return limits[fitting[0]] if fitting else 1


@dataclass
class _Lowered:
    rows: int
    quiet_steps: int = 0


class RowLimits:
    """Row limits by batch key. A calibrated limit replaces the table's; running out of memory halves either."""

    def __init__(self, table: Mapping[int, int], rows_a_sample: int = 2) -> None:
        """`rows_a_sample`: two for a denoiser, as guidance doubles the rows."""
        self._table = table
        self._rows_a_sample = rows_a_sample
        self._calibrated: dict[BatchKey, int] = {}
        self._lowered: dict[BatchKey, _Lowered] = {}

    def ceiling(self, batch_key: BatchKey, width: int, height: int) -> int:
        """Rows when memory is not short."""
        return self._calibrated.get(batch_key) or self._rows_a_sample * samples_for_size(width, height, self._table)

    def of_one_row_a_sample(self) -> RowLimits:
        """Limits by the same table, for what takes one row of each sample."""
        return RowLimits(self._table, 1)

    def rows(self, batch_key: BatchKey, width: int, height: int) -> int:
        """Rows allowed now."""
        lowered = self._lowered.get(batch_key)
        ceiling = self.ceiling(batch_key, width, height)
        return min(ceiling, lowered.rows) if lowered else ceiling

    def calibrate(self, batch_key: BatchKey, rows: int) -> None:
        """Set the measured limit of a key."""
        self._calibrated[batch_key] = max(1, rows)

    def is_calibrated(self, batch_key: BatchKey) -> bool:
        """Whether the limit of a key was measured."""
        return batch_key in self._calibrated

    def halve(self, batch_key: BatchKey, failed_rows: int) -> int:
        """A pass of `failed_rows` rows did not fit. Returns the new limit, at least 1."""
        self._lowered[batch_key] = _Lowered(max(1, failed_rows // 2))
        return self._lowered[batch_key].rows

    def record_success(self, batch_key: BatchKey, width: int, height: int) -> None:
        """A pass fitted. After enough of them a lowered limit is doubled, up to its ceiling."""
        lowered = self._lowered.get(batch_key)
        if lowered is None:
            return
        lowered.quiet_steps += 1
        if lowered.quiet_steps >= RECOVER_AFTER:
            lowered.rows, lowered.quiet_steps = lowered.rows * 2, 0
            if lowered.rows >= self.ceiling(batch_key, width, height):
                del self._lowered[batch_key]

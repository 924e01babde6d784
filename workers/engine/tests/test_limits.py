"""How many rows a forward pass may have."""

import pytest

from imagegenx_site.config import GpuConfig
from workers.engine.batching.limits import RECOVER_AFTER, RowLimits, samples_for_size

DEFAULT_LIMITS = GpuConfig().batch_limits


@pytest.mark.parametrize(
    ("size", "samples"),
    [((256, 256), 16), ((512, 512), 16), ((512, 768), 8), ((1024, 256), 8), ((2048, 8), 2), ((4096, 8), 1)],
)
def test_the_longer_side_decides(size, samples):
    assert samples_for_size(*size, DEFAULT_LIMITS) == samples


def test_guidance_doubles_the_rows_of_a_sample():
    assert RowLimits(DEFAULT_LIMITS).rows("key", 1024, 1024) == 16


def test_out_of_memory_halves_and_quiet_steps_double():
    limits = RowLimits(DEFAULT_LIMITS)
    assert limits.halve("key", failed_rows=16) == 8
    assert limits.rows("key", 1024, 1024) == 8
    assert limits.rows("other", 1024, 1024) == 16
    for _ in range(RECOVER_AFTER - 1):
        limits.record_success("key", 1024, 1024)
    assert limits.rows("key", 1024, 1024) == 8
    limits.record_success("key", 1024, 1024)
    assert limits.rows("key", 1024, 1024) == 16


def test_a_calibrated_limit_replaces_the_table_and_can_be_lowered():
    limits = RowLimits(DEFAULT_LIMITS)
    limits.calibrate("key", 6)
    assert limits.rows("key", 512, 512) == 6
    limits.halve("key", failed_rows=6)
    assert limits.rows("key", 512, 512) == 3


def test_never_below_one_row():
    assert RowLimits(DEFAULT_LIMITS).halve("key", failed_rows=1) == 1

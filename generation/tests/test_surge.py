"""The table of generation/surge.py, cell by cell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generation.surge import SurgeConfig, Verdict, judge, seconds_waiting

CONFIG = SurgeConfig(lower_s=60, refuse_s=240, lowered_side=512, longest_retry_s=600)


@pytest.mark.parametrize("waiting", [0, 59.9, 60, 239, 240, 10_000])
def test_paid_plans_are_never_touched(waiting):
    assert judge(waiting, paid=True, width=1024, height=1024, config=CONFIG) == Verdict(1024, 1024)


def test_below_the_limit_nobody_is_touched():
    assert judge(59.9, paid=False, width=1024, height=1024, config=CONFIG) == Verdict(1024, 1024)


def test_from_the_first_limit_large_pictures_are_lowered_in_shape():
    assert judge(60, paid=False, width=1024, height=1024, config=CONFIG) == Verdict(512, 512, lowered=True)
    assert judge(60, paid=False, width=1024, height=768, config=CONFIG) == Verdict(512, 384, lowered=True)
    assert judge(60, paid=False, width=512, height=512, config=CONFIG) == Verdict(512, 512)


def test_from_the_second_limit_others_are_told_when_to_come_back():
    assert judge(240, paid=False, width=512, height=512, config=CONFIG) == Verdict(512, 512, retry_after=180)
    assert judge(1e6, paid=False, width=512, height=512, config=CONFIG).retry_after == 600


@given(st.floats(60, 239), st.integers(32, 256), st.integers(32, 256))
def test_a_lowered_picture_can_be_made(waiting, across, down):
    verdict = judge(waiting, paid=False, width=across * 8, height=down * 8, config=CONFIG)
    assert verdict.width % 8 == verdict.height % 8 == 0
    assert min(verdict.width, verdict.height) >= 256
    assert verdict.lowered == (max(across, down) * 8 > 512)


def test_waiting_work_is_counted_in_seconds_of_all_workers():
    assert seconds_waiting(300, 0.4, 2) == pytest.approx(60)
    assert seconds_waiting(300, 0.4, 0) == pytest.approx(120)

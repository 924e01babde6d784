"""Row counts of a batch: read from the environment, validated, and passed to the engine's policy."""

import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from imagegenx_site import environment


@pytest.mark.parametrize(("text", "buckets"), [("2,4, 8", (2, 4, 8)), ("1", (1,)), ("", ())])
def test_row_buckets_are_a_list_of_numbers(monkeypatch, text, buckets):
    monkeypatch.setenv("GPU_ROW_BUCKETS", text)
    assert environment.ascending("GPU_ROW_BUCKETS") == buckets


@pytest.mark.parametrize("text", ["4,2", "2,2", "0,2", "two"])
def test_invalid_row_buckets_stop_the_process_with_the_settings_name(monkeypatch, text):
    monkeypatch.setenv("GPU_ROW_BUCKETS", text)
    with pytest.raises(ImproperlyConfigured, match=f"GPU_ROW_BUCKETS is '{text}'; it may be ascending numbers"):
        environment.ascending("GPU_ROW_BUCKETS")


@pytest.mark.django_db
def test_the_engine_of_a_worker_has_the_buckets_of_the_settings(settings, tmp_path):
    from workers.gpu.main import start_engine

    settings.GPU_ROW_BUCKETS, settings.GPU_PRELOAD, settings.VAR_DIR = (2, 4), [], tmp_path
    interval = sys.getswitchinterval()
    try:
        pool, engine = start_engine()
    finally:
        sys.setswitchinterval(interval)
    pool.close()
    assert engine.config.policy.row_buckets == (2, 4)

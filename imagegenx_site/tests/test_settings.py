"""Values from the environment, defaults that stand once, and who may read the settings."""

import itertools
import re
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from generation.queue.worker import WorkerQueueConfig
from imagegenx_site import environment, settings
from imagegenx_site.config import GpuConfig, SpoolConfig, SurgeConfig
from workers.engine.batching.config import EngineConfig
from workers.engine.models.pool import PoolConfig
from workers.gpu.loop import LoopConfig
from workers.gpu.watchdog import WatchdogConfig

ROOT = Path(__file__).parents[2]
READS_SETTINGS = re.compile(
    r"^\s*(?:from django\.conf import settings|from imagegenx_site import .*\bsettings\b)", re.M
)
ENTRY_POINTS = {"workers/gpu/main.py", "workers/gpu/worker.py", "storage/store.py", "storage/signing.py"}


def test_the_classes_below_begin_with_the_settings_defaults() -> None:
    queue, spool = WorkerQueueConfig(worker="w", own_queue="q"), SpoolConfig(Path())
    gpu, engine, surge = GpuConfig(), EngineConfig(), SurgeConfig()
    found = {
        "QUEUE_SHARES": queue.shares,
        "BATCH_WINDOW_MS": queue.window_ms,
        "BATCH_MIN": queue.min_batch,
        "BATCH_LIMITS": dict(engine.batch_limits),
        "GPU_PAUSED_GB": engine.paused_bytes / 2**30,
        "GPU_ROW_BUCKETS": engine.policy.row_buckets,
        "GPU_DEVICE": PoolConfig().device,
        "GPU_IDLE_UNLOAD_S": PoolConfig().idle_unload_s,
        "STOP_SECONDS": LoopConfig().stop_grace,
        "HANG_SECONDS": WatchdogConfig("redis://", "w", 1, "gpu-worker").hang,
        "SURGE_LOWER_S": surge.lower_s,
        "SURGE_REFUSE_S": surge.refuse_s,
        "SURGE_SIDE": surge.lowered_side,
        "SPOOL_MAX_BYTES": spool.max_bytes,
    }
    assert found == {name: getattr(django_settings, name) for name in found}
    assert gpu.row_buckets == engine.policy.row_buckets


@pytest.mark.parametrize(("text", "shares"), [("5,3,1,1", (5, 3, 1, 1)), (" 8, 4,2 ,1", (8, 4, 2, 1))])
def test_shares_are_read(monkeypatch: pytest.MonkeyPatch, text: str, shares: tuple[int, ...]) -> None:
    monkeypatch.setenv("QUEUE_SHARES", text)
    assert environment.shares("QUEUE_SHARES", ()) == shares


@pytest.mark.parametrize("text", ["5,3,1", "5,3,1,0", "5,3,1,1,1", "many"])
def test_other_shares_stop_the_process_by_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("QUEUE_SHARES", text)
    with pytest.raises(ImproperlyConfigured, match=f"QUEUE_SHARES is '{text}'; it may be four numbers"):
        environment.shares("QUEUE_SHARES", (5, 3, 1, 1))


def test_batch_limits_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_LIMITS", "512:8, 1024:2")
    assert environment.limits("BATCH_LIMITS", {}) == {512: 8, 1024: 2}


@pytest.mark.parametrize("text", ["512", "512:0", "0:1", "512:8:2", "a:b"])
def test_other_batch_limits_stop_the_process_by_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("BATCH_LIMITS", text)
    with pytest.raises(ImproperlyConfigured, match=f"BATCH_LIMITS is '{text}'; it may be pairs"):
        environment.limits("BATCH_LIMITS", {512: 16})


def test_networks_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVATE_CALLBACKS", "127.0.0.1/32, fd00::/8")
    assert environment.networks("PRIVATE_CALLBACKS") == ["127.0.0.1/32", "fd00::/8"]
    monkeypatch.delenv("PRIVATE_CALLBACKS")
    assert environment.networks("PRIVATE_CALLBACKS") == []


@pytest.mark.parametrize("text", ["true", "10.0.0.1/8", "10.0.0.0/8;127.0.0.1", "shop.example"])
def test_what_is_no_network_stops_the_process_by_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PRIVATE_CALLBACKS", text)
    with pytest.raises(ImproperlyConfigured, match=f"PRIVATE_CALLBACKS is '{text}'; it may be networks"):
        environment.networks("PRIVATE_CALLBACKS")


def readers(package: str) -> set[str]:
    """Files below the package that read the settings, without tests and commands."""
    files = (file for file in (ROOT / package).rglob("*.py") if not {"tests", "management"} & set(file.parts))
    return {str(file.relative_to(ROOT)) for file in files if READS_SETTINGS.search(file.read_text())}


@pytest.mark.parametrize("package", ["workers/engine", "generation/queue", "postprocessing", "storage"])
def test_code_without_settings_has_none(package: str) -> None:
    assert readers(package) <= ENTRY_POINTS


def test_in_the_gpu_worker_only_what_works_with_rows_reads_settings() -> None:
    for path in readers("workers/gpu") - ENTRY_POINTS:
        assert re.search(r"^from generation\.(?:tasks|catalogue)\b.* import", (ROOT / path).read_text(), re.M), path


def test_every_setting_has_its_comment_before_or_beside_it() -> None:
    """Of those that the environment sets."""
    lines = Path(settings.__file__).read_text().splitlines()
    bare = [
        line
        for before, line in itertools.pairwise(lines)
        if re.match(r"[A-Z][A-Z0-9_]* = .*(?:env\.|(?:number|choice|ascending|shares|limits)\()", line)
        and "  # " not in line
        and not before.startswith("#")
    ]
    assert bare == []
    assert not [line for line in lines if re.match(r"\).*  # ", line)]


def test_an_address_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", "http://127.0.0.1:5000", "https://translate.example/api/"):
        monkeypatch.setenv("TRANSLATOR_URL", text)
        assert environment.address("TRANSLATOR_URL") == text
    for text in ("127.0.0.1:5000", "ftp://x", "http://", "http://x/?a=b", "http://a b/"):
        monkeypatch.setenv("TRANSLATOR_URL", text)
        with pytest.raises(ImproperlyConfigured, match="TRANSLATOR_URL is"):
            environment.address("TRANSLATOR_URL")

"""How long pictures for identical requests are kept, and how many bytes of them."""

import os
import time
from pathlib import Path
from typing import Any

from storage import keys
from storage.store import get_store
from workers.housekeeping.results import sweep_results


def test_kept_results_stay_within_their_bytes(settings: Any, tmp_path: Path) -> None:
    disk = "django.core.files.storage.FileSystemStorage"
    settings.STORAGES = {
        **settings.STORAGES,
        "raw": {"BACKEND": disk, "OPTIONS": {"location": str(tmp_path), "base_url": None}},
    }
    settings.RESULT_CACHE_BYTES = 250
    settings.RESULT_CACHE_HOURS = 24
    store = get_store("raw")
    named = [keys.result_key(f"{number}" * 64, "a" * 64) for number in range(5)]
    ages = {0: 30 * 3600, 1: 4 * 3600, 2: 3 * 3600, 3: 2 * 3600, 4: 3600}
    for number, key in enumerate(named):
        store.put(key, b"x" * 100, "image/png")
        then = time.time() - ages[number]
        os.utime(tmp_path / key, (then, then))
    assert sweep_results() == 3
    assert [found.key for found in store.list(keys.RESULTS)] == named[3:]

"""LoRA files in a shared folder."""

from pathlib import Path
from typing import Any

import pytest

from storage.errors import StoreUnavailable
from storage.store import lora_files


def test_a_file_is_named_by_its_hash_and_found_by_its_source(settings: Any, tmp_path: Path) -> None:
    settings.LORA_ROOT = str(tmp_path)
    (tmp_path / ".tmp").write_bytes(b"x")
    source = lora_files().add(tmp_path / ".tmp", "a" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["a" * 64 + ".safetensors"]
    assert lora_files().path(source) == source
    assert lora_files().path("mini/lora/outline.safetensors") == "mini/lora/outline.safetensors"


def test_a_lora_of_an_object_store_needs_its_setting(settings: Any) -> None:
    settings.LORA_STORE = "disk"
    with pytest.raises(StoreUnavailable, match="LORA_STORE is disk"):
        lora_files().path("store:" + "a" * 64)

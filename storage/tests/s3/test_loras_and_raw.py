"""LORA_STORE=s3 and RAW_STORE=s3 against a real S3 server."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from storages.backends.s3 import S3Storage

from storage import raw
from storage.errors import ObjectNotFound
from storage.loras import BucketLoras
from storage.s3 import S3Driver
from storage.tests.s3 import moto_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    try:
        with moto_server.running(tmp_path_factory.mktemp("moto")) as running:
            yield running
    except moto_server.NotInstalled as reason:
        pytest.skip(str(reason))


@pytest.fixture
def buckets(settings: Any, server: Any) -> None:
    """The settings' two buckets on that server, prepared by the command."""
    place = {"endpoint_url": server.endpoint, "region_name": server.region, "addressing_style": "path"}
    account = {"access_key": server.access_key, "secret_key": server.secret_key}
    options = {**place, **account, "file_overwrite": True, "default_acl": None}

    def backend(bucket: str) -> dict[str, Any]:
        return {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**options, "bucket_name": bucket}}

    settings.LORA_STORE = settings.RAW_STORE = "s3"
    settings.STORAGES = {**settings.STORAGES, "loras": backend("imagegenx"), "raw": backend("imagegenx-raw")}
    out = io.StringIO()
    call_command("prepare_bucket", stdout=out)
    assert "refused" not in out.getvalue()


def driver(settings: Any, name: str) -> S3Driver:
    return S3Driver(S3Storage(**settings.STORAGES[name]["OPTIONS"]))


def test_a_lora_added_on_one_machine_is_fetched_on_another(buckets: None, settings: Any, tmp_path: Path) -> None:
    web, gpu = (BucketLoras(driver(settings, "loras"), tmp_path / name, 1 << 30) for name in ("web", "gpu"))
    web.root.mkdir()
    data = b"weights" * 3_000_000  # 21 MB: in parts
    sha256 = hashlib.sha256(data).hexdigest()
    (web.root / ".tmp-1").write_bytes(data)
    source = web.add(web.root / ".tmp-1", sha256)
    found = Path(gpu.path(source))
    assert found.parent == gpu.root
    assert hashlib.sha256(found.read_bytes()).hexdigest() == sha256
    inode = found.stat().st_ino
    assert Path(gpu.path(source)).stat().st_ino == inode  # from the cache
    with pytest.raises(ObjectNotFound):
        gpu.path("store:" + "0" * 64)
    assert sorted(path.name for path in gpu.root.iterdir()) == [f"{sha256}.safetensors"]


def test_the_cache_keeps_to_its_bytes(buckets: None, settings: Any, tmp_path: Path) -> None:
    web = BucketLoras(driver(settings, "loras"), tmp_path / "web", 1 << 30)
    gpu = BucketLoras(driver(settings, "loras"), tmp_path / "gpu", 250)
    web.root.mkdir()
    sources = []
    for number in range(4):
        (web.root / "t").write_bytes(bytes([number]) * 100)
        sources.append(web.add(web.root / "t", f"{number}" * 64))
    for source in sources:
        assert Path(gpu.path(source)).stat().st_size == 100
    assert sorted(path.name[0] for path in gpu.root.iterdir()) == ["2", "3"]


def test_raw_pictures_lie_in_a_bucket_without_versions_that_forgets(buckets: None, settings: Any, task_id: Any) -> None:
    key = raw.write_raw(task_id, 0, 1, b"\x89PNG")
    assert raw.read(key) == b"\x89PNG"
    assert raw.delete_task(task_id) == 1
    with pytest.raises(ObjectNotFound):
        raw.read(key)
    bucket = driver(settings, "raw")
    assert "Status" not in bucket.client.get_bucket_versioning(Bucket=bucket.bucket)
    rules = bucket.client.get_bucket_lifecycle_configuration(Bucket=bucket.bucket)["Rules"]
    days = {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in rules if "Expiration" in rule}
    assert days == {"raw/": 7, "results/": 2, "images/": 7, "thumbs/": 7, "medium/": 7}

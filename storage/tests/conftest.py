import time
from uuid import UUID

import pytest


@pytest.fixture
def task_id() -> UUID:
    """A UUIDv7 of now."""
    return UUID(int=(int(time.time() * 1000) << 80) | (7 << 76) | (0b10 << 62) | 0x1234)


@pytest.fixture(autouse=True)
def stores_on_disk(settings, tmp_path):
    """Both stores in a folder of the test's own."""
    disk = "django.core.files.storage.FileSystemStorage"
    settings.STORAGES = {
        **settings.STORAGES,
        "images": {"BACKEND": disk, "OPTIONS": {"location": str(tmp_path / "media"), "base_url": None}},
        "raw": {"BACKEND": disk, "OPTIONS": {"location": str(tmp_path / "raw"), "base_url": None}},
    }
    settings.SPOOL_ROOT = str(tmp_path / "spool")
    settings.ROOT_URLCONF = "storage.urls"
    settings.MIDDLEWARE = []
    return tmp_path

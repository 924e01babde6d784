"""Other accounts of the machine read nothing of the product's."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage

from deploy.private_files import make_private
from deploy.product import ROOT
from deploy.state import DataFolder


def open_entries(folder: Path) -> list[str]:
    """What others could read or enter."""
    entries = [path for path in folder.rglob("*") if not path.is_symlink()]
    return [str(path.relative_to(folder)) for path in entries if path.lstat().st_mode & 0o077]


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A data folder as an earlier version left it: folders 755, files 644."""
    root = tmp_path / "var"
    for name in (
        "media/images/2026/a.webp",
        "raw/1/b.png",
        "loras/c.safetensors",
        "spool/d",
        "log/web.log",
        "run/x.ready",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        path.chmod(0o644)
    (root / "media" / "run.sh").write_text("x")
    (root / "media" / "run.sh").chmod(0o755)
    (root / "media" / "out").symlink_to(tmp_path)
    for folder in (root, *root.rglob("*")):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o755)
    (tmp_path / "outside").write_text("x")
    (tmp_path / "outside").chmod(0o644)
    return root


def test_files_of_an_earlier_version_are_closed_at_the_start(earlier: Path) -> None:
    assert open_entries(earlier)
    folder = DataFolder(earlier)
    folder.prepare()
    assert open_entries(earlier) == []
    assert (earlier / "media" / "run.sh").stat().st_mode & 0o777 == 0o700
    assert (earlier.parent / "outside").stat().st_mode & 0o777 == 0o644, "links are not followed"
    assert stat.S_IMODE(earlier.stat().st_mode) in (0o700, 0o711)


def test_a_closed_folder_is_not_walked(earlier: Path) -> None:
    assert make_private([earlier]) > 5
    (earlier / "media" / "late").write_text("x")
    (earlier / "media" / "late").chmod(0o644)
    assert make_private([earlier, earlier.parent / "missing"]) == 0


def test_stores_write_files_for_their_own_account(tmp_path: Path) -> None:
    store = FileSystemStorage(location=tmp_path / "store")
    store.save("a/b/c.bin", ContentFile(b"x"))
    assert open_entries(tmp_path / "store") == []


@pytest.mark.parametrize(
    "line", ["import imagegenx_site.settings", "import django; django.setup()", "import imagegenx_site.celery"]
)
def test_every_process_that_reads_the_settings_writes_private_files(line: str, tmp_path: Path) -> None:
    code = f"import os; os.umask(0o022); {line}; import pathlib; pathlib.Path('{tmp_path}/made').mkdir()"
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "imagegenx_site.settings", "SECRET_KEY": settings.SECRET_KEY}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=ROOT)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700

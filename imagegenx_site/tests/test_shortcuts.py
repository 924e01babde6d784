"""docs/decisions/0006 lists every shortcut, and every shortcut names that page."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("imagegenx_site", "generation", "workers", "storage", "postprocessing")


def test_the_page_and_the_code_name_each_other() -> None:
    page = (ROOT / "docs" / "decisions" / "0006-shortcuts.md").read_text()
    listed = {path for path in re.findall(r"`([a-z0-9_/]+\.py)`", page) if "/tests/" not in path and "/" in path}
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py") if "tests" not in file.parts]
    naming = {str(file.relative_to(ROOT)) for file in files if "docs/decisions/0006" in file.read_text()}
    assert naming == listed - {"imagegenx_site/deferred.py"}

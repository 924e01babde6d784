"""An audit that saw nothing does not look like one that found nothing."""

from typing import Any

import pytest

from deploy.audit import Findings

CLEAN = {"name": "django", "version": "5.2.19", "vulns": []}
BROKEN = {"name": "x", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code"), [([CLEAN], 0), ([CLEAN, UNKNOWN], 0), ([CLEAN, BROKEN], 1), ([UNKNOWN], 2), ([], 2)]
)
def test_exit_codes(packages: list[dict[str, Any]], code: int) -> None:
    assert Findings.of({"dependencies": packages}).code == code


def test_what_is_said_of_a_vulnerable_package() -> None:
    found = Findings.of({"dependencies": [BROKEN, UNKNOWN]})
    assert found.vulnerable == ["x 1.0: PYSEC-1, mended in 1.1"]
    assert found.skipped == ["torch: Dependency not found on PyPI"]

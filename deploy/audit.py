"""Asks for known vulnerabilities of everything that is installed: `make audit`.

pip-audit (in a virtual environment of its own beside VENV) compares the installed versions with the advisories of PyPI,
or of OSV with AUDIT_SERVICE=osv. Exit codes: 0 nothing known; 1 a package has a known vulnerability; 2 the advisories
could not be reached, or knew no package at all: then nothing was audited. Packages that the service does not know
(builds of PyTorch for one device, for example) are listed: look them up by hand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.product import ROOT

PATIENCE_S = 900


@dataclass
class Findings:
    """What pip-audit reports: names with versions, and what is known of them."""

    audited: int = 0
    skipped: list[str] = field(default_factory=list)
    vulnerable: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, report: dict[str, Any]) -> Findings:
        """Of pip-audit's JSON."""
        found = cls()
        for package in report["dependencies"]:
            if "skip_reason" in package:
                found.skipped.append(f"{package['name']}: {package['skip_reason']}")
                continue
            found.audited += 1
            for known in package["vulns"]:
                mended = ", ".join(known["fix_versions"]) or "no version yet"
                found.vulnerable.append(f"{package['name']} {package['version']}: {known['id']}, mended in {mended}")
        return found

    @property
    def code(self) -> int:
        """The exit code."""
        if not self.audited:
            return 2
        return 1 if self.vulnerable else 0


def run_audit(venv: Path) -> Findings | None:
    """Audit the packages of a virtual environment; None when the advisories can't be reached (pip-audit says why)."""
    [packages] = (venv / "lib").glob("python3*/site-packages")
    command: list[str | Path] = [_program(venv.with_name(venv.name + "-audit")), "--path", packages, "--format", "json"]
    command += ["--vulnerability-service", os.environ.get("AUDIT_SERVICE", "pypi"), "--progress-spinner", "off"]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=PATIENCE_S, check=False)
    try:
        return Findings.of(json.loads(done.stdout))
    except ValueError:
        return None


def _program(place: Path) -> Path:
    """pip-audit, installed at the first call."""
    program = place / "bin" / "pip-audit"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pins = ROOT / "deploy" / "requirements-audit.txt"
        subprocess.run([place / "bin" / "pip", "install", "--quiet", "-r", pins], check=True)
    return program


def main() -> int:
    """Entry point of `python -m deploy.audit VENV`."""
    found = run_audit(Path(sys.argv[1] if len(sys.argv) > 1 else sys.prefix))
    if found is None:
        print("error: the advisories can't be reached; nothing was audited", file=sys.stderr)
        return 2
    for line in found.skipped:
        print(f"not known to the service: {line}")
    for line in found.vulnerable:
        print(f"VULNERABLE {line}")
    print(f"{found.audited} packages audited, {len(found.vulnerable)} known vulnerabilities.")
    return found.code


if __name__ == "__main__":
    sys.exit(main())

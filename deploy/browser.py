"""What `make test-browser` needs: a Chromium of this machine, and the packages that drive it.

    python -m deploy.browser VENV

installs the packages of deploy/requirements-browser.txt into VENV, and ends with 1 and a sentence when there is no
Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.product import ROOT

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PINS = ROOT / "deploy" / "requirements-browser.txt"


def chromium() -> str | None:
    """The program: what CHROMIUM names, else the first that is found."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def main() -> int:
    """Entry point."""
    if chromium() is None:
        names = ", ".join(NAMES)
        print(
            f"error: no Chromium ({names}). Install one (apt-get install chromium) or name it in CHROMIUM.",
            file=sys.stderr,
        )
        return 1
    python = Path(sys.argv[1]) / "bin" / "python"
    return subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", PINS], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

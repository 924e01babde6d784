"""Whether a process of this container lives: `python -m deploy.health [NAME]`, for liveness probes.

Its work loop touches {VAR_DIR}/run/NAME.alive each two seconds (imagegenx_site/heartbeat.py), also while Redis or
Postgres is away. A file that has grown old means that the loop hangs. Before the process is ready there is none, and
that is not judged here: the start has its own probe.
"""

import os
import sys
import time
from pathlib import Path

HUNG_S = 60.0
# Without a loop of their own to ask: Flower answers GET /healthcheck, backup waits for hours for Postgres' programs.
SILENT = ("flower", "backup")


def alive_file(run: Path, name: str) -> Path:
    return run / f"{name}.alive"


def silence(path: Path, now: float) -> float:
    """Seconds since the last sign of life; 0 before the first."""
    try:
        return max(0.0, now - path.stat().st_mtime)
    except FileNotFoundError:
        return 0.0


def main() -> None:
    """Entry point of `python -m deploy.health [NAME]`: exit code 0 or 1; without a name for each that there is."""
    run = Path(os.environ.get("VAR_DIR") or "var").resolve() / "run"
    names = sys.argv[1:] or [file.stem for file in run.glob("*.alive")]
    for name in names:
        seconds = silence(alive_file(run, name), time.time())
        if seconds > HUNG_S:
            sys.exit(f"{name} has given no sign of life for {seconds:.0f} s")


if __name__ == "__main__":
    main()

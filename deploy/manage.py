"""Runs Django's commands against the running product: `make manage ARGS=showmigrations`.

The embedded servers get new ports at each start. The run script writes the environment of its processes to the data
folder, and this program starts `manage.py` with it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploy.processes import DeployError
from deploy.product import ROOT
from deploy.state import read_json


def running_environment(var_dir: Path) -> dict[str, str]:
    """The environment of the processes that run in `var_dir`."""
    stored = read_json(var_dir / "run" / "environment.json")
    if not stored:
        raise DeployError(f"ImageGenX is not running in {var_dir}: start it with `make run`, or set VAR_DIR.")
    return os.environ | {name: str(value) for name, value in stored.items()}


def main() -> None:
    """Replace this process by manage.py with the same arguments."""
    try:
        env = running_environment(Path(os.environ.get("VAR_DIR") or ROOT / "var").resolve())
    except DeployError as error:
        sys.exit(f"error: {error}")
    os.execve(sys.executable, [sys.executable, str(ROOT / "manage.py"), *sys.argv[1:]], env)


if __name__ == "__main__":
    main()

"""The whole product as a benchmark runs it: started in a folder of its own, then asked over HTTP."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.services import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
START_S: Final = 240
_OWN_SERVERS: Final = ("DATABASE_URL", "REDIS_URL", "PORT", "FLOWER_PORT", "VAR_DIR")


@contextmanager
def product(environment: Mapping[str, str], module: str = "deploy.run") -> Iterator[Path]:
    """Run the product with these variables; yields its data folder once it is ready. `module` starts it."""
    with tempfile.TemporaryDirectory(prefix="imagegenx-bench-") as folder:
        var_dir = Path(folder) / "var"
        env = {name: value for name, value in os.environ.items() if name not in _OWN_SERVERS}
        env |= {"VAR_DIR": str(var_dir), "PORT": str(free_port()), "FLOWER_PORT": str(free_port())} | dict(environment)
        with (Path(folder) / "terminal.log").open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", module], cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_S
            while not (var_dir / "ready.json").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"The product did not start:\n{(Path(folder) / 'terminal.log').read_text()}")
                time.sleep(0.2)
            yield var_dir
        finally:
            process.terminate()
            process.wait(90)


def ready(var_dir: Path) -> dict[str, object]:
    """ready.json: addresses, key, process ids."""
    return dict(json.loads((var_dir / "ready.json").read_text()))


def environment_of(var_dir: Path) -> dict[str, str]:
    """The environment of the running processes."""
    return dict(json.loads((var_dir / "run" / "environment.json").read_text()))

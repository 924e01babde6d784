"""The product under attack, and accounts of its own making."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from deploy.services import free_port

_ACCOUNTS: Final = """
import json
from generation.accounts.models import ApiKey, Plan, Team, User
keys = {}
for name in ("attacker", "victim"):
    team, _ = Team.objects.get_or_create(name=name, defaults={"plan": Plan.objects.get(name="paid")})
    user, _ = User.objects.get_or_create(username=name, defaults={"team": team})
    keys[name] = ApiKey.make(user)[1]
print("KEYS" + json.dumps(keys))
"""


class Product:
    """The run script in a data folder; `root`: the checkout that is run."""

    def __init__(self, var_dir: Path, root: Path) -> None:
        self._var_dir, self._root = var_dir, root
        hidden = {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "HOST", "PROCESS_NAME"}
        self._env = {name: value for name, value in os.environ.items() if name not in hidden}
        self._env |= {"VAR_DIR": str(var_dir), "PORT": str(free_port()), "FLOWER_PORT": str(free_port())}
        self._env |= {
            "PRIVATE_CALLBACKS": "127.0.0.1/32",
            "TORCH_THREADS": "1",
        }  # the hostile server is on this machine
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, Any]:
        """What ready.json says, once it is there."""
        command = [sys.executable, "-m", "deploy.run", "--stop-with-parent"]
        with (self._var_dir.parent / "terminal.log").open("wb") as output:
            self._process = subprocess.Popen(command, cwd=self._root, env=self._env, stdout=output, stderr=output)
        deadline = time.monotonic() + 360
        while not (ready := self._var_dir / "ready.json").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._var_dir.parent / "terminal.log").read_text()[-3000:])
            time.sleep(0.2)
        content: dict[str, Any] = json.loads(ready.read_text())
        return content

    def keys(self) -> dict[str, str]:
        """API keys of an attacker and a victim."""
        command = [sys.executable, "-m", "deploy.manage", "shell", "-c", _ACCOUNTS]
        done = subprocess.run(command, cwd=self._root, env=self._env, capture_output=True, text=True, check=True)
        found: dict[str, str] = json.loads(done.stdout.partition("KEYS")[2])
        return found

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

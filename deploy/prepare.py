"""Prepares the database for the code: migrations, seed data, partitions, and at the first start the demo account.

The run script starts `python -m deploy.prepare` with the environment of the product: one process for all steps, because
each start of Django takes seconds. It prints a line for each step.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
from pathlib import Path

from deploy.product import ROOT
from deploy.state import DataFolder, read_json, write_private

DAY_S = 86400
SOURCES = ("*/migrations/*.py", "fixtures/seed/*", "requirements.txt")


def state_of_code() -> str:
    """A digest of all files that the preparation depends on."""
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def is_prepared(folder: DataFolder) -> bool:
    """Whether the embedded database was prepared for this code, and its partitions reach far enough."""
    stored = read_json(folder.root / "prepared.json")
    return time.time() - float(stored.get("at", 0)) < DAY_S and stored.get("code") == state_of_code()


def prepare(folder: DataFolder) -> None:
    """Run every step, and store the demo account's key and the admin's password in the secrets."""
    import django  # here, so that the run script can call is_prepared() without loading Django

    django.setup()
    _step("schema", "migrate", interactive=False)
    _step("seed", "seed")
    _step("partitions", "partitions")
    from generation.accounts.models import User

    if not User.objects.filter(username="demo").exists() or "demo" not in folder.secrets():
        made = json.loads(_step("account", "demo_account", json=True))
        folder.keep_secrets(folder.secrets() | {"demo": made})
    write_private(folder.root / "prepared.json", {"code": state_of_code(), "at": time.time()})


def _step(title: str, command: str, **options: object) -> str:
    began = time.monotonic()
    output = io.StringIO()
    if sys.stdout.isatty():
        print(f"  {title:<12} ...", end="\r", flush=True)
    from django.core.management import call_command

    call_command(command, stdout=output, **options)
    print(f"  {title:<12} ready ({time.monotonic() - began:.1f} s)", flush=True)
    return output.getvalue()


if __name__ == "__main__":
    prepare(DataFolder(Path(os.environ["VAR_DIR"])))

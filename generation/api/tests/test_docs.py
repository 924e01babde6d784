"""docs/api.md is true: every block of it is run, in order, against a web process."""

import base64
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings as django_settings

from fixtures.rows import finish, picture_bytes
from generation.accounts.models import User
from generation.catalogue.models import ImageModel
from generation.catalogue.tests.test_loras import lora_bytes
from generation.tasks.models import Task

GUIDE = Path(django_settings.BASE_DIR) / "docs" / "api.md"


@pytest.mark.django_db(transaction=True)
def test_every_block_of_the_guide_works(
    live: str,
    able_model: ImageModel,
    owner: User,
    key_of: Callable[..., str],
    make_task: Callable[..., Task],
    tmp_path: Path,
) -> None:
    key, done, waiting = key_of(owner), finish(make_task()), make_task()
    (tmp_path / "picture.png").write_bytes(picture_bytes((256, 256)))
    (tmp_path / "ink.safetensors").write_bytes(lora_bytes())
    names = {
        "BASE": live,
        "KEY": key,
        "TASK": waiting.public_id,
        "DONE": done.public_id,
        "PICTURE": str(tmp_path / "picture.png"),
        "LORA": str(tmp_path / "ink.safetensors"),
    }
    headers = {"authorization": f"Bearer {key}"}
    with (
        httpx.Client(base_url=live, headers=headers, timeout=60, trust_env=False) as api,
        httpx.Client(base_url=live, timeout=60, trust_env=False) as anonymous,
    ):
        picture = base64.b64encode(picture_bytes((256, 256))).decode()
        known: dict[str, Any] = {
            "api": api,
            "anonymous": anonymous,
            "picture": picture,
            "done": done.public_id,
            "KEY": key,
        }
        ran = [run(language, code, names, known) for language, code in blocks(GUIDE.read_text("utf-8"))]
    assert ran.count("bash") >= 8
    assert ran.count("python") >= 10


def blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(bash|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run(language: str, code: str, names: dict[str, str], known: dict[str, Any]) -> str:
    if language == "python":
        exec(compile(code, "docs/api.md", "exec"), known)
        return language
    environment = {**os.environ, **names, "no_proxy": "*"}
    done = subprocess.run(["bash", "-euc", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{code}\n{done.stdout[-500:]}\n{done.stderr}"
    return language

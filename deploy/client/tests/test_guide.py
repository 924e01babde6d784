"""docs/client.md is true: every block of it is run, in order, against the product's web process."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.rows import picture_bytes
from generation.catalogue.tests.test_loras import lora_bytes

from imagegenx.cli import output
from tests.servers import PROGRAM, Program

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "client.md"


@pytest.mark.django_db(transaction=True)
def test_every_block_of_the_guide_works(program: Program, live: str, key: str, tmp_path: Path) -> None:
    for name in ("a.png", "m.png"):
        (tmp_path / name).write_bytes(picture_bytes((256, 256)))
    (tmp_path / "f.safetensors").write_bytes(lora_bytes())
    shim = tmp_path / "bin" / "imagegenx"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n')
    shim.chmod(0o755)
    hidden = ("IMAGEGENX_URL", "IMAGEGENX_KEY")  # the guide logs in
    env = {name: value for name, value in program.env.items() if name not in hidden}
    env |= {"BASE": live, "KEY": key, "PATH": f"{shim.parent}:{os.environ['PATH']}"}
    found = re.findall(r"^```(bash|python)\n(.*?)^```", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    python = "".join(code for language, code in found if language == "python")
    for command in [["bash", "-euc", code] for language, code in found if language == "bash"]:
        run(command, tmp_path, env)
    run([sys.executable, "-c", python], tmp_path, env)
    assert len(list((tmp_path / "batch").glob("*.webp"))) == 3


def run(command: list[str], folder: Path, env: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"


def test_the_table_of_exit_codes_is_the_programs() -> None:
    listed = re.findall(r"^\| (\d+) \|", GUIDE.read_text("utf-8"), re.MULTILINE)
    in_code = re.findall(r"^(\d+)  ", output.__doc__ or "", re.MULTILINE)
    assert listed == in_code

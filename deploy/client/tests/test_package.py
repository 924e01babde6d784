"""The package: built as a wheel, installed alone, in the syntax of Python 3.9."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from imagegenx.transport import VERSION

PACKAGE = Path(__file__).resolve().parents[1]


def test_the_wheel_is_complete_and_runs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("tests", "*.egg-info", "build", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *alone, "-q", "-w", str(tmp_path), str(source)], check=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    modules = {str(path.relative_to(PACKAGE)) for path in (PACKAGE / "imagegenx").rglob("*.py")}
    assert modules | {"imagegenx/py.typed"} == {name for name in names if name.startswith("imagegenx/")}
    metadata = zipfile.ZipFile(wheel).read(f"imagegenx-{VERSION}.dist-info/METADATA").decode()
    assert "Requires-Python: >=3.9" in metadata
    required = set(re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.MULTILINE))
    assert required == {"httpx", "httpx-sse", "rich", "typer", "typing-extensions"}
    subprocess.run([*pip, "install", *alone, "-q", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    program = [sys.executable, str(tmp_path / "site" / "bin" / "imagegenx"), "--version"]
    env = {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"imagegenx {VERSION}\n"
    env |= {"_IMAGEGENX_COMPLETE": "complete_bash", "COMP_WORDS": "imagegenx dr", "COMP_CWORD": "1"}
    done = subprocess.run(program[:-1], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["draw"]


def test_the_syntax_is_that_of_python_3_9() -> None:
    for path in (PACKAGE / "imagegenx").rglob("*.py"):
        ast.parse(path.read_text("utf-8"), feature_version=(3, 9))

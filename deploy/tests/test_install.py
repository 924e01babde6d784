"""Making the environment: once, with one sentence for each thing that may be in the way."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy import install

SCRIPT = Path(install.__file__)


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A requirements file without entries, so that a test makes a real environment without fetching anything."""
    path = tmp_path / "requirements.txt"
    path.write_text("# nothing\n")
    monkeypatch.setattr(install, "requirement_files", lambda: [str(path)])
    monkeypatch.setattr(install, "own_packages", list)
    return path


def test_installed_again_when_the_pins_change_and_not_stamped_after_a_failure(
    requirements: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    venv = tmp_path / "venv"
    install.main(str(venv))
    assert subprocess.run([venv / "bin" / "python", "-m", "pip", "--version"], check=False).returncode == 0
    assert "Installing the Python packages" in capfd.readouterr().out

    install.main(str(venv))
    assert capfd.readouterr().out == ""

    requirements.write_text("./no-such-folder\n")
    with pytest.raises(install.InstallError):
        install.main(str(venv))
    assert "Installing the Python packages" in capfd.readouterr().out
    assert install.installed_state(str(venv)) != install.required_state()


def test_a_long_silence_of_pip_is_broken(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(install, "QUIET_S", 0.2)
    program = "import time; print('Collecting a', flush=True); time.sleep(0.7); print('Successfully installed')"
    assert install.run([sys.executable, "-c", program])[0] == 0
    lines = capfd.readouterr().out.splitlines()
    between = [line for line in lines if line.startswith("  still working, ")]
    assert [line for line in lines if line not in between] == ["  Collecting a", "  Successfully installed"]
    assert between


def test_the_client_is_installed_as_it_stands_in_the_repository(tmp_path: Path) -> None:
    """With this environment's packages: an empty one would have to fetch them."""
    run = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--dry-run", "--no-index"]
    assert [Path(folder).relative_to(install.ROOT).as_posix() for folder in install.own_packages()] == ["deploy/client"]
    subprocess.run([*run, "--no-deps", "--no-build-isolation", "-e", *install.own_packages()], check=True)


def test_a_python_that_is_too_old_is_one_sentence() -> None:
    program = f"import sys; sys.version_info = (3, 9, 2); sys.argv = ['install']; exec(open({str(SCRIPT)!r}).read())"
    program = program.replace("exec(", f"__file__ = {str(SCRIPT)!r}; exec(")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ImageGenX needs Python 3.11 or newer, but")
    assert "is Python 3.9" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory", "apt install build-essential"),
        ("error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-g++'", "apt install build-essential"),
        ("ERROR: Unknown compiler(s): [['cc'], ['gcc'], ['clang']]", "apt install build-essential"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "free some space"),
        ("ERROR: No matching distribution found for torch==2.13.0", "does not exist for this Python"),
        ("NewConnectionError: Failed to establish a new connection: [Errno 111]", "can't be reached"),
    ],
)
def test_known_causes_have_one_sentence(output: str, advice: str) -> None:
    sentence = install.cause(f"Collecting something\n{output}\n")
    assert sentence is not None
    assert advice in sentence
    assert "\n" not in sentence

"""The data folder: one run at a time, private secrets, clear sentences."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.processes import DeployError
from deploy.product import ProductConfig, environment
from deploy.services import free_port
from deploy.state import DataFolder, read_json, write_private


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "var")
    folder.prepare()
    first = folder.secrets()
    assert folder.secrets() == first
    assert set(first) == {"secret_key", "postgres_password", "redis_password"}
    assert (folder.root / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    holder = (
        "import sys; from pathlib import Path; from deploy.state import DataFolder\n"
        "folder = DataFolder(Path(sys.argv[1])); folder.prepare(); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(DeployError, match=rf"already runs in .* \(process {process.pid}\)"):
            DataFolder(tmp_path).prepare()
        process.communicate("")
    DataFolder(tmp_path).prepare()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeployError, match="can't be used: Not a directory"):
        DataFolder(tmp_path / "file" / "var").prepare()


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.state.FREE_BYTES_NEEDED", 1 << 60)
    with pytest.raises(DeployError, match="free some space, or choose another folder with VAR_DIR"):
        DataFolder(tmp_path).prepare()


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(DeployError, match="is damaged"):
        read_json(tmp_path / "secrets.json")


def test_private_files_replace_each_other(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    for number in range(2):
        write_private(path, {"number": number})
    assert json.loads(path.read_text()) == {"number": 1}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_wrong_port_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "eighty")
    with pytest.raises(DeployError, match="PORT is 'eighty'; it may be a whole number from 0 to 65535"):
        ProductConfig.from_environment()


def test_a_taken_port_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))
        with pytest.raises(DeployError, match=r"Port \d+ of 127\.0\.0\.1 is taken"):
            ProductConfig.from_environment().check_port()
    monkeypatch.setenv("HOST", "192.0.2.1")  # reserved for documentation, so nobody's
    with pytest.raises(DeployError, match=r"can't listen on port \d+ of 192\.0\.2\.1: Cannot assign requested address"):
        ProductConfig.from_environment().check_port()
    monkeypatch.setenv("HOST", "127.0.0.1")
    monkeypatch.setenv("PORT", str(free_port()))
    ProductConfig.from_environment().check_port()


def test_the_users_settings_override_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "pictures.example")
    monkeypatch.setenv("HOST", "0.0.0.0")
    config = ProductConfig.from_environment()
    env = environment(config, "secret", "postgres://", "redis://")
    assert env["ALLOWED_HOSTS"] == "pictures.example"
    assert config.url.startswith("http://127.0.0.1:")

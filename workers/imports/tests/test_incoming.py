"""An import that was asked for in the admin: done by a command of its own, with what it says in the row."""

from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings as real_settings
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from generation.accounts.models import User
from generation.catalogue.models import ImageModel, ModelImport
from generation.catalogue.presets import incoming
from workers.engine.checkpoints.tests import original_names

MINI = Path(real_settings.BASE_DIR) / "fixtures" / "models" / "mini"
ADD = "/admin/generation/modelimport/add/"


@pytest.fixture
def folder(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where operators put what they have; the command meets the test's database and folders."""
    settings.MODELS_DIR = str(tmp_path / "models")
    parts = connection.settings_dict
    login = f"{quote(parts['USER'])}:{quote(parts['PASSWORD'] or '')}"
    monkeypatch.setenv("DATABASE_URL", f"postgres://{login}@{parts['HOST']}:{parts['PORT']}/{parts['NAME']}")
    monkeypatch.setenv("MODELS_DIR", settings.MODELS_DIR)
    incoming.folder().mkdir(parents=True)
    return incoming.folder()


@pytest.fixture
def staff(db: None) -> Client:
    User.objects.create_superuser("root", password="a long password")
    client = Client()
    assert client.login(username="root", password="a long password")
    return client


def run_next() -> ModelImport:
    wanted = incoming.claim()
    assert wanted
    incoming.run(wanted)
    wanted.refresh_from_db()
    return wanted


@pytest.mark.django_db(transaction=True)
def test_a_file_becomes_a_model_and_the_list_says_so(
    folder: Path, staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_command("seed", stdout=StringIO())
    original_names.write(MINI, folder / "My Model_v2.safetensors")
    monkeypatch.setattr(incoming, "NOTE_S", 0.2)
    assert "My Model_v2.safetensors" in staff.get(ADD).content.decode()
    staff.post(ADD, {"file": "My Model_v2.safetensors", "models_for": "[]", "like": "", "parts": ""})
    done = run_next()
    assert (done.state, "my-model-v2 can be asked for" in done.note) == ("done", True), done.note
    assert ImageModel.objects.get(name="my-model-v2").family == "sd15"
    assert "imported: " in staff.get("/admin/generation/modelimport/").content.decode()
    assert incoming.claim() is None


def test_what_is_not_there_cannot_be_imported(folder: Path, db: None) -> None:
    for file in ("gone.safetensors", "../models", ".."):
        ModelImport.objects.create(file=file)
    notes = [run_next() for _ in range(3)]
    assert {one.state for one in notes} == {"failed"}
    assert all("There is no" in one.note for one in notes)


def test_what_the_command_says_of_a_failure_stands_in_the_row(
    folder: Path, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = folder.parent / "python"
    command.write_text('#!/bin/sh\necho "CommandError: old.ckpt is a pickle: $5" >&2\nexit 1\n')
    command.chmod(0o755)
    monkeypatch.setattr(incoming.sys, "executable", str(command))
    (folder / "old.ckpt").write_bytes(b"x")
    ModelImport.objects.create(file="old.ckpt", name="old")
    assert (run_next().state, ModelImport.objects.get().note) == (
        "failed",
        f"old.ckpt is a pickle: {folder / 'old.ckpt'}",
    )


def test_the_form_offers_what_is_there_and_nothing_else(folder: Path, staff: Client) -> None:
    assert "Nothing is there now." in staff.get(ADD).content.decode()
    answer = staff.post(ADD, {"file": "/etc/passwd", "models_for": "[]"})
    assert (answer.status_code, ModelImport.objects.count()) == (200, 0)


def test_one_whose_process_died_has_failed(db: None) -> None:
    long_ago = timezone.now() - timedelta(minutes=2)
    row = ModelImport.objects.create(file="a", state="running", at=long_ago)
    assert incoming.claim() is None
    row.refresh_from_db()
    assert (row.state, "process ended" in row.note) == ("failed", True)

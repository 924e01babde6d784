"""The command that compares rows and objects, over real rows."""

import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.utils import timezone

from storage import keys
from storage.store import images


@pytest.fixture
def rows(db: None, task_id: UUID) -> Any:
    """A succeeded task with one image whose object is stored; the answer is the image's row."""
    call_command("seed", verbosity=0)
    user = get_user_model().objects.create(username="owner")
    model = apps.get_model("generation", "ImageModel").objects.all()[0]
    sizes = {"width": 256, "height": 256}
    task = apps.get_model("generation", "Task").objects.create(
        id=task_id, user=user, model=model, model_key="m@1", kind="text2img", text="x", params={}, batch_key="b",
        expires_at=timezone.now() + timedelta(hours=1), status="succeeded", **sizes,
    )  # fmt: skip
    data = b"picture"
    digest = hashlib.sha256(data).hexdigest()
    key = keys.image_key(task_id, 0, digest, "image/webp")
    images().put(key, data)
    return apps.get_model("generation", "Image").objects.create(
        id=UUID(int=task_id.int ^ 1), task=task, index=0, seed=1, key=key, format="webp", content_type="image/webp",
        bytes=len(data), sha256=digest, **sizes,
    )  # fmt: skip


def test_matching_rows_and_objects_give_no_finding(rows, capsys):
    call_command("check_storage")
    assert "no difference" in capsys.readouterr().out


def test_a_missing_object_is_an_error(rows, capsys):
    images().delete(rows.key)
    with pytest.raises(CommandError, match="1 objects are missing"):
        call_command("check_storage")
    assert f"missing\t{rows.key}" in capsys.readouterr().out


def test_a_missing_input_is_an_error(rows, task_id, capsys):
    sent = keys.input_key(task_id, "image", "cd" * 32, "image/png")
    images().put(sent, b"sent")
    tasks = apps.get_model("generation", "Task").objects.filter(pk=task_id)
    tasks.update(params={"image_key": sent, "mask_key": ""})
    call_command("check_storage")
    images().delete(sent)
    with pytest.raises(CommandError, match="1 objects are missing"):
        call_command("check_storage")
    assert f"missing\t{sent}" in capsys.readouterr().out
    tasks.update(deleted_at=timezone.now())  # its owner took it away
    call_command("check_storage")


def test_orphans_are_listed_and_deleted_with_the_option(rows, task_id, capsys):
    orphan = keys.image_key(UUID(int=task_id.int + 5), 0, "ab" * 32, "image/webp")
    images().put(orphan, b"orphan")
    call_command("check_storage")
    assert f"orphan\t{orphan}\t6" in capsys.readouterr().out
    call_command("check_storage", delete_orphans=True)
    assert [found.key for found in images().list("")] == [rows.key]

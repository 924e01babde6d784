"""An ended task made again: what the caller's plan and policy do not allow stays so, whoever made the first."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from fixtures.rows import picture_bytes
from generation.accounts.models import Plan, User
from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import Parameters
from generation.policy import rules
from generation.policy.models import BlockedTerm, PolicyProfile
from generation.tasks.models import Status, Task
from storage.keys import input_key
from storage.store import get_store

MakeTask = Callable[..., Task]


def retry(client: Client, task: Task) -> Any:
    return client.post(f"/api/v1/image/task/{task.public_id}/retry")


def code_of(response: Any) -> str:
    return str(response.json()["data"]["errors"][0]["code"])


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User) -> Client:
    return client_of(owner)


def test_the_pictures_of_the_first_task_are_copied(client: Client, make_task: MakeTask) -> None:
    task = make_task(Status.FAILED, kind="img2img")
    key = input_key(task.id, "image", "a" * 64, "image/png")
    get_store("images").put(key, picture_bytes(), "image/png")
    task.params |= {"kind": "img2img", "image_key": key}
    task.save(update_fields=["params"])
    assert retry(client, task).status_code == 202
    assert client.delete(f"/api/v1/image/task/{task.public_id}").status_code == 200
    new = Task.objects.exclude(pk=task.pk).get()
    assert get_store("images").read(Parameters.from_json(new.params).image_key) == picture_bytes()


def test_a_task_whose_picture_or_model_is_gone_can_not_be_made_again(client: Client, make_task: MakeTask) -> None:
    task = make_task(Status.FAILED)
    task.params |= {"image_key": input_key(task.id, "image", "a" * 64, "image/png")}
    task.save(update_fields=["params"])
    assert retry(client, task).status_code == 409
    ImageModel.objects.update(enabled=False)
    assert retry(client, make_task(Status.FAILED)).status_code == 409
    assert Task.objects.filter(status=Status.QUEUED).count() == 0


@pytest.mark.parametrize(
    ("changes", "params", "message"),
    [
        ({"width": 2048}, {"width": 2048}, "Your plan allows up to 1024 pixels a side."),
        ({}, {"num_images": 9}, "Your plan allows up to 4 pictures a request."),
        ({}, {"postprocess": {"upscale": {"scale": 2}}}, "Your plan does not include super-resolution."),
    ],
)
def test_a_key_of_a_smaller_plan_is_held_to_it(
    client_of: Any, owner: User, make_task: MakeTask, changes: dict, params: dict, message: str
) -> None:
    task = make_task(Status.FAILED, **changes)
    task.params |= params
    task.save(update_fields=["params"])
    refused = retry(client_of(owner, plan=Plan.objects.get(name="free")), task)
    assert (refused.status_code, refused.json()["message"]) == (403, message)
    assert retry(client_of(owner), task).status_code == 202


def test_what_is_blocked_by_now_or_for_this_key_is_refused(
    client: Client, client_of: Any, owner: User, make_task: MakeTask
) -> None:
    task = make_task(Status.FAILED)
    task.params |= {"text": "red circle, cruel"}  # `cruel` came as a keyword
    task.save(update_fields=["params"])
    safe = PolicyProfile.objects.create(name="children", subjects=["cat"])
    rules.reload()
    assert code_of(retry(client_of(owner, profile=safe), task)) == "policy_subject"
    BlockedTerm.objects.create(term="cruel", reason="violence")
    rules.reload()
    assert code_of(retry(client, task)) == "policy_violence"
    assert Task.objects.count() == 1

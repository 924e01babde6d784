"""The checker's look at pictures: what it refuses never leaves the raw store, and fails with its reason."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from django.test import Client

from generation.accounts.models import User
from generation.policy import rules
from generation.policy.models import PolicyProfile, PolicyRefusal
from generation.tasks.models import Image, Status, Task
from generation.webhooks.models import Delivery
from storage import raw
from storage.store import get_store
from workers.stages import notify, postprocess, upload

MakeTask = Callable[..., Task]
RED, BLUE = (255, 0, 0), (0, 0, 255)


class MostlyRed:
    """A checker: pictures of which over a third is strongly red are `gore`."""

    def check(self, pictures: Sequence[np.ndarray]) -> Sequence[str]:
        return ["gore" if _red_part(picture) > 1 / 3 else "" for picture in pictures]


class Broken:
    def check(self, pictures: Sequence[np.ndarray]) -> Sequence[str]:
        raise RuntimeError("its model is not there")


def _red_part(picture: np.ndarray) -> float:
    hue, strength, light = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV))
    red = ((hue < 8) | (hue > 172)) & (strength > 150) & (light > 80)
    return float(red.mean())


@pytest.fixture
def checker(settings) -> None:
    settings.IMAGE_CHECKER = f"{__name__}.MostlyRed"


def generated(task: Task, colour: tuple[int, int, int]) -> Task:
    """As the GPU worker leaves it."""
    picture = np.full((256, 256, 3), colour[::-1], np.uint8)
    raw.write_raw(task.id, 0, task.attempt, cv2.imencode(".png", picture)[1].tobytes())
    return task


def run(task: Task) -> Task:
    for stage in (postprocess.postprocess, upload.upload, notify.notify):
        stage(str(task.id))
    task.refresh_from_db()
    return task


def kept() -> list[str]:
    return [found.key for name in ("raw", "images") for found in get_store(name).list("")]


def test_a_refused_picture_fails_its_task_and_is_nowhere(checker: None, make_task: MakeTask, owner: User) -> None:
    key = owner.api_keys.create(prefix="p", digest="d")
    task = run(generated(make_task(Status.GENERATED, attempt=1, api_key=key, callback_url="https://x.example/"), RED))
    assert (task.status, task.error_code) == ("failed", "policy_gore")
    assert (Image.objects.count(), kept()) == (0, [])
    refusal = PolicyRefusal.objects.get()
    assert (refusal.reason, refusal.rule, refusal.api_key) == ("policy_gore", "checker", key)
    assert Delivery.objects.get().event_type == "task.failed"


def test_others_pass_also_beside_a_refused_one(checker: None, make_task: MakeTask) -> None:
    bad = generated(make_task(Status.GENERATED, attempt=1), RED)
    good = generated(make_task(Status.GENERATED, attempt=1), BLUE)
    postprocess.postprocess(str(bad.id))
    assert [run(task).status for task in (good, bad)] == ["succeeded", "failed"]


def test_without_a_checker_nothing_is_looked_at(make_task: MakeTask) -> None:
    assert run(generated(make_task(Status.GENERATED, attempt=1), RED)).status == "succeeded"


def test_a_broken_checker_lets_nothing_through(make_task: MakeTask, settings) -> None:
    settings.IMAGE_CHECKER, settings.STAGE_MAX_ATTEMPTS = f"{__name__}.Broken", 1
    task = run(generated(make_task(Status.GENERATED, attempt=1), BLUE))
    assert (task.status, task.error_code) == ("failed", "postprocess_failed")
    assert Image.objects.count() == 0


@pytest.fixture
def child_safe(seeded: None) -> PolicyProfile:
    profile = PolicyProfile.objects.create(name="children", check_images=True)
    rules.reload()
    return profile


def test_a_profile_can_require_it_for_its_keys_alone(
    checker: None,
    child_safe: PolicyProfile,
    client_of: Callable[..., Client],
    owner: User,
    settings,
) -> None:
    settings.IMAGE_CHECK = "profiles"
    body = {"text": "a red circle", "params": {"preview": True}}
    for client in (client_of(owner, profile=child_safe), client_of(owner)):
        assert client.post("/api/v1/image/generate", body, content_type="application/json").status_code == 202
    bound, free = Task.objects.order_by("id")
    assert [task.params["preview"] for task in (bound, free)] == [False, True], "a preview is a picture, too"
    Task.objects.update(status=Status.GENERATED, attempt=1)
    for task in (bound, free):
        task.refresh_from_db()
        generated(task, RED)
    assert [run(task).status for task in (bound, free)] == ["failed", "succeeded"]


def test_without_a_checker_such_a_key_makes_nothing(
    child_safe: PolicyProfile,
    client_of: Callable[..., Client],
    owner: User,
) -> None:
    body = {"text": "a red circle"}
    answer = client_of(owner, profile=child_safe).post("/api/v1/image/generate", body, content_type="application/json")
    assert answer.json()["data"]["errors"][0]["code"] == "policy_no_checker"
    assert Task.objects.count() == 0

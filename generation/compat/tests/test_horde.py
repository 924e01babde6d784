"""The AI Horde's API: submit, check, status, cancel; the key stands in `apikey`, the id of a request for itself."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import get_access_token_model, get_application_model

from fixtures.rows import finish, picture_bytes
from generation.accounts.models import ApiKey, User
from generation.catalogue.models import ImageModel
from generation.compat.horde import form
from generation.tasks.models import Status, Task

ASYNC = "/api/v2/generate/async"


@pytest.fixture
def client(key_of: Callable[..., str], owner: User, able_model: ImageModel) -> Client:
    return Client(headers={"apikey": key_of(owner)})


def post(client: Client, body: Any, path: str = ASYNC) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json")


def picture() -> str:
    return base64.b64encode(picture_bytes((256, 256))).decode()


def test_a_request_is_followed_by_its_id_alone(client: Client) -> None:
    params = {"width": 256, "height": 256, "steps": 9, "n": 2, "cfg_scale": 5, "sampler_name": "k_euler_a", "seed": "7"}
    made = post(client, {"prompt": "a cat ### a dog", "params": {**params, "karras": True}, "models": ["x", "mini"]})
    assert (made.status_code, sorted(made.json())) == (202, ["id", "kudos"])
    task = Task.objects.get()
    assert (task.text, task.params["negative_text"], task.model_key.partition("@")[0]) == ("a cat", "a dog", "mini")
    names = ("steps", "num_images", "cfg_scale", "sampler", "seed")
    assert [task.params[name] for name in names] == [9, 2, 5, "euler_a", 7]
    anybody, job = Client(), made.json()["id"]
    waiting = anybody.get(f"/api/v2/generate/check/{job}").json()
    assert (waiting["waiting"], waiting["done"], waiting["faulted"], waiting["is_possible"]) == (2, False, False, True)
    assert str(task.id) != job
    finish(task, 2)
    done = anybody.get(f"/api/v2/generate/status/{job}").json()
    assert (done["finished"], done["done"], len(done["generations"])) == (2, True, 2)
    first = done["generations"][0]
    assert (first["state"], first["model"], first["censored"]) == ("ok", "mini", False)
    fetched: Any = anybody.get(first["img"].partition("testserver")[2] or first["img"])
    assert b"".join(fetched.streaming_content if fetched.streaming else [fetched.content])[:4] == b"RIFF"


def test_pictures_come_in_base64_without_r2(client: Client) -> None:
    job = post(client, {"prompt": "x", "r2": False, "params": {"width": 256, "height": 256}}).json()["id"]
    finish(Task.objects.get())
    [one] = Client().get(f"/api/v2/generate/status/{job}").json()["generations"]
    assert base64.b64decode(one["img"])[:4] == b"RIFF"


def test_pictures_are_worked_on(client: Client) -> None:
    sent = {"prompt": "x", "source_image": picture()}
    assert post(client, {**sent, "params": {"denoising_strength": 0.4}}).status_code == 202
    assert post(client, {**sent, "source_processing": "inpainting", "source_mask": picture()}).status_code == 202
    control = {"control_type": "canny", "image_is_control": True, "post_processing": ["RealESRGAN_x2plus"]}
    assert post(client, {**sent, "params": control}).status_code == 202
    plain, masked, controlled = (task.params for task in Task.objects.order_by("id"))
    assert (plain["kind"], plain["strength"], masked["kind"]) == ("img2img", 0.4, "inpaint")
    assert (controlled["kind"], controlled["control_ready"]) == ("controlnet", True)
    assert controlled["postprocess"]["upscale"]["scale"] == 2


def test_cancel_and_dry_run(client: Client) -> None:
    price = post(client, {"prompt": "x", "dry_run": True})
    assert (price.status_code, price.json()["kudos"] > 0, Task.objects.count()) == (200, True, 0)
    job = post(client, {"prompt": "x"}).json()["id"]
    told = Client().delete(f"/api/v2/generate/status/{job}").json()
    assert (told["done"], told["faulted"], told["generations"]) == (True, True, [])
    assert Task.objects.get().status == Status.CANCELLED


def test_strangers_are_refused_with_a_sentence(client: Client, key_of: Any, owner: User) -> None:
    anonymous = post(Client(headers={"apikey": "0000000000"}), {"prompt": "x"})
    assert (anonymous.status_code, anonymous.json()["rc"]) == (401, "InvalidAPIKey")
    assert "no anonymous requests" in anonymous.json()["message"]
    assert post(Client(), {"prompt": "x"}).status_code == 401
    reader = Client(headers={"apikey": key_of(owner, scopes=["read"])})
    assert (post(reader, {"prompt": "x"}).status_code, reader.get("/api/v2/find_user").status_code) == (403, 200)
    assert client.get("/api/v2/find_user").json()["username"].startswith("owner#")
    assert "mini" in [model["name"] for model in client.get("/api/v2/status/models").json()]
    assert Task.objects.count() == 0


def test_the_uuid_form_of_a_key_is_the_key(client: Client, key_of: Any, owner: User) -> None:
    """As the Horde's SDK wants keys: computed by their holder, and no more than the key."""

    def form_of(key: str) -> str:
        _, key_id, secret = key.split("_", 2)
        proof = hmac.new(hashlib.sha256(secret.encode()).digest(), b"uuid", hashlib.sha256).hexdigest()
        return str(UUID(key_id + proof[:22]))

    def status(apikey: str) -> int:
        return Client(headers={"apikey": apikey}).get("/api/v2/find_user").status_code

    right = form_of(key_of(owner))
    assert (status(right), status(right[:-1] + ("0" if right[-1] != "0" else "1"))) == (200, 401)
    assert status(form_of(key_of(owner, scopes=["generate"]))) == 403
    assert status(form_of(key_of(owner, must_sign=True))) == 401
    assert status(form_of(key_of(owner, revoked_at=timezone.now()))) == 401
    large = {"prompt": "x", "source_image": "A" * (2 << 20)}
    assert post(Client(headers={"apikey": right}), large).status_code == 400, "a large body is read for it"


def test_an_id_ends_with_its_key_and_a_guessed_one_is_nothing(client: Client) -> None:
    job = post(client, {"prompt": "x"}).json()["id"]
    task = Task.objects.get()
    for guessed in (uuid4(), task.id):
        answer = Client().get(f"/api/v2/generate/status/{guessed}")
        assert (answer.status_code, answer.json()["rc"]) == (404, "RequestNotFound")
    key = ApiKey.objects.get(pk=task.api_key_id or 0)
    key.revoked_at = timezone.now()
    key.save()
    assert Client().get(f"/api/v2/generate/status/{job}").status_code == 401
    assert Client().get("/api/v2/nothing").json()["rc"] == "RequestNotFound"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x", "params": {"width": 4096, "height": 4096}}, "params.width, params.height"),
        ({"prompt": "x", "params": {"sampler_name": "k_dpm_fast"}}, "params.sampler_name"),
        ({"prompt": "x", "params": {"post_processing": ["GFPGAN"]}}, "params.post_processing"),
        ({"prompt": "x", "params": {"tiling": True, "tis": [{}]}}, "params.tiling"),
        ({"prompt": "x", "params": {"control_type": "canny"}}, "source_image"),
        ({"prompt": "x", "source_image": "%%"}, "source_image"),
        ({"prompt": "x", "source_image": "x", "source_processing": "outpainting"}, "source_processing"),
        ({"prompt": "x", "models": ["nothing"]}, "models"),
        ({"prompt": "x", "params": {"loras": ["ink"]}}, "params.loras"),
        ({"prompt": "x", "params": 7}, "params"),
    ],
)
def test_refusals_name_the_field(client: Client, body: dict[str, Any], field: str) -> None:
    answer = post(client, body)
    assert (answer.status_code, answer.json()["rc"]) == (400, "ValidationError")
    assert field in answer.json()["errors"], answer.json()
    assert answer.json()["message"]
    assert Task.objects.count() == 0


def test_a_text_as_seed_stands_for_a_number_always_the_same() -> None:
    assert form._seed("a cat") == form._seed("a cat") != form._seed("a dog")
    assert (form._seed("12"), form._seed(5)) == (12, 5)


def test_an_access_token_is_refused_before_its_task_is_made(owner: User, able_model: ImageModel) -> None:
    """Its request could not be followed: an id stands for a key that can be looked up."""
    application = get_application_model().objects.create(
        name="x", user=owner, client_type="confidential", authorization_grant_type="client-credentials"
    )
    row = get_access_token_model()(
        user=owner, application=application, scope="generate read", expires=timezone.now() + timedelta(hours=1)
    )
    row._raw_token = "a token"
    row.save()
    answer = post(Client(headers={"apikey": "a token"}), {"prompt": "a cat"})
    assert (answer.status_code, Task.objects.count()) == (403, 0), answer.json()

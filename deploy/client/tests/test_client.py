"""The clients against the product's web process."""

import hashlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.rows import Receiver, picture_bytes
from generation.accounts.models import User
from generation.catalogue.tests.test_loras import lora_bytes
from generation.tasks import outbox
from generation.tasks.models import Task
from generation.webhooks.models import Delivery

import imagegenx
from imagegenx import AsyncClient, Client, verify_webhook

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(live: str, key: str, working: None) -> Iterator[Client]:
    with Client(live, key) as made:
        yield made


def test_a_text_becomes_pictures_whose_hash_is_checked(client: Client, tmp_path: Any) -> None:
    seen: list[imagegenx.Event] = []
    task = client.wait(
        client.generate("a red circle", num_images=2, seed=7, resolution="256x256"), on_event=seen.append
    )
    assert [one.kind for one in seen][-2:] == ["task", "end"]
    paths = client.save(task, tmp_path / "out")
    assert [path.name for path in paths] == [f"a-red-circle-{task.task_id[-12:]}-{n}.webp" for n in (0, 1)]
    found = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert found == [output.sha256 for output in task.outputs]
    assert client.picture(task) == paths[0].read_bytes()
    assert client.thumbnail(task)[:4] == b"RIFF"


def test_every_kind_of_picture(client: Client, tmp_path: Any) -> None:
    picture = picture_bytes((256, 256))
    (tmp_path / "a.png").write_bytes(picture)
    made = [
        client.img2img("a circle", picture, strength=0.5),
        client.inpaint("a star", tmp_path / "a.png", picture, mask_feather=4),
        client.inpaint("a star", str(tmp_path / "a.png"), area=[16, 16, 64, 64]),
        client.controlnet("a cat", picture, control_type="canny", control_strength=0.9),
        client.controlnet("a cat", picture, image=(tmp_path / "a.png").open("rb"), strength=0.5),
        client.upscale(picture, 2),
        client.remove_background(picture),
    ]
    kinds = ["img2img", "inpaint", "inpaint", "controlnet", "controlnet", "upscale", "background"]
    assert [client.wait(task).kind for task in made] == kinds
    blocks = [task.input["postprocess"] for task in made[-2:]]
    assert blocks[0]["upscale"]["scale"] == 2
    assert blocks[1]["white_background"] is True
    assert made[0].input["strength"] == 0.5


def test_a_picture_may_be_an_address(client: Client) -> None:
    with pytest.raises(imagegenx.InvalidRequest) as refused:
        client.img2img("a circle", "http://127.0.0.1:1/a.png")
    assert refused.value.faults[0].field == "image"  # the server was asked to fetch it


def test_faults_are_types_that_name_the_fields(client: Client, live: str) -> None:
    with pytest.raises(imagegenx.InvalidRequest) as refused:
        client.generate("", steps=0)
    error = refused.value
    assert [fault.field for fault in error.faults] == ["text", "params.steps"]
    assert (error.status, error.code) == (400, error.faults[0].code)
    assert error.request_id
    assert "params.steps: " in str(error)
    with pytest.raises(imagegenx.NotFound):
        client.task("img" + "0" * 32)
    with Client(live, "igx_0000000000_wrong") as stranger, pytest.raises(imagegenx.Unauthorised):
        stranger.models()
    with pytest.raises(imagegenx.TaskFailed, match="too large for this GPU") as failed:
        client.wait(client.generate("fail"))
    assert failed.value.task.status == "failed"


def test_an_idempotency_key_makes_one_task(client: Client) -> None:
    first = client.generate("a star", idempotency_key="order-1")
    assert client.generate("a star", idempotency_key="order-1").task_id == first.task_id
    with pytest.raises(imagegenx.InvalidRequest) as refused:
        client.generate("a circle", idempotency_key="order-1")
    assert refused.value.code == "idempotency_mismatch"
    assert client.generate("a star").task_id != first.task_id
    assert Task.objects.count() == 2


def test_a_limit_is_waited_for(client: Client, owner: User) -> None:
    owner.team.plan.requests_per_second = 2  # type: ignore[union-attr]
    owner.team.plan.save()  # type: ignore[union-attr]
    assert [len(client.models()) > 0 for _ in range(5)] == [True] * 5
    impatient = Client(client.account.url, client.account.key, retries=imagegenx.Retries(most=0))
    with impatient, pytest.raises(imagegenx.RateLimited) as refused:
        ask_often(impatient)
    assert refused.value.retry_after == 1


def ask_often(client: Client) -> None:
    for _ in range(20):
        client.models()


def test_tasks_are_listed_canceled_repeated_deleted_and_zipped(client: Client, tmp_path: Any) -> None:
    done = client.wait(client.generate("a star"))
    held = client.generate("hold on")
    assert client.cancel(held).status == "canceled"
    assert client.cancel(held.task_id).status == "canceled"
    with pytest.raises(imagegenx.TaskFailed) as failed:
        client.wait(held)
    assert failed.value.code == "canceled"
    again = client.wait(client.retry(done))
    assert [task.task_id for task in client.tasks()] == [again.task_id, held.task_id, done.task_id]
    assert [task.task_id for task in client.tasks(status="canceled")] == [held.task_id]
    assert len(list(client.tasks(limit=2))) == 2
    assert client.zip([done, again.task_id], tmp_path / "two.zip").read_bytes()[:2] == b"PK"
    client.delete(again)
    assert [task.task_id for task in client.tasks(limit=1)] == [held.task_id]


def test_a_wait_has_an_end_of_its_own(client: Client) -> None:
    task = client.generate("hold on")
    with pytest.raises(imagegenx.WaitTimeout):
        client.wait(task, timeout=0.5)
    assert not client.task(task.task_id).ended


def test_batches_prices_and_the_catalogue(client: Client) -> None:
    batch = client.batch(["a star", "a circle"], batch_size=2)
    while not client.batch_status(batch.batch_id).ended:
        pass
    assert client.batch_status(batch.batch_id).counts == {"succeeded": 2}
    assert [task.text for task in batch.tasks] == ["a star", "a circle"]
    price = client.price("a star", num_images=2)
    assert (price.valid, price.images) == (True, 2)
    assert "text2img" in next(model for model in client.models() if model.name == "mini").kinds
    assert client.styles()[0].name
    assert client.plans()["current"] == "paid"
    assert client.usage(group_by="model").total["tasks"] == 2


def test_keys_loras_and_webhooks(client: Client) -> None:
    made = client.create_key("shop", ["read"], expires_in_days=3)
    assert made.api_key
    assert made.api_key not in repr(made)
    rotated = client.rotate_key(made.prefix, grace_seconds=0)
    client.revoke_key(rotated.prefix)
    listed = client.keys()
    assert {made.prefix, rotated.prefix} <= {one.prefix for one in listed}
    lora = client.upload_lora(lora_bytes(), "ink")
    assert client.enable_lora("ink", 1, enabled=False).state == "disabled"
    assert client.enable_lora("ink", 1).state == lora.state
    assert client.loras()[0].rank == lora.rank
    client.delete_lora("ink", 1)
    assert client.loras() == ()
    hook = client.create_webhook("https://shop.example/hook", ["task.succeeded"])
    assert hook.secret
    assert hook.secret.startswith("whsec_")
    client.delete_webhook(hook.id)
    assert all(one.id != hook.id for one in client.webhooks())


def test_webhooks_of_the_product_are_verified(client: Client, receiver: Receiver, settings: Any) -> None:
    settings.PRIVATE_CALLBACKS = ["127.0.0.1/32"]
    hook = client.create_webhook(receiver.url)
    task = client.wait(client.generate("a star"))
    outbox.write_delivery(Task.objects.get().id)
    assert outbox.send(Delivery.objects.get().id)
    [(_, headers, body)] = receiver.got
    event = verify_webhook(body, headers, hook.secret or "")
    assert (event.type, event.task.task_id, event.task.succeeded) == ("task.succeeded", task.task_id, True)
    for changed in ({"webhook-id": "evt_other"}, {"webhook-timestamp": "1"}, {"webhook-signature": "v1,AAAA"}, None):
        with pytest.raises(imagegenx.WebhookError):
            verify_webhook(body, headers | changed if changed else {}, hook.secret or "")
    with pytest.raises(imagegenx.WebhookError):
        verify_webhook(body + b" ", headers, hook.secret or "")
    with pytest.raises(imagegenx.WebhookError):
        verify_webhook(body, headers, "whsec_c29tZXRoaW5nIGVsc2U=")


async def test_the_asynchronous_client_does_the_same(live: str, key: str, working: None, tmp_path: Any) -> None:
    async with AsyncClient(live, key) as client:
        made = [await client.generate(text) for text in ("a star", "a circle")]
        tasks = [await client.wait(task) for task in made]
        paths = [path for task in tasks for path in await client.save(task, tmp_path)]
        assert [path.read_bytes()[:4] for path in paths] == [b"RIFF"] * 2
        assert [task.task_id async for task in client.tasks()] == [task.task_id for task in reversed(made)]
        with pytest.raises(imagegenx.InvalidRequest):
            await client.generate("")


def test_both_clients_have_the_same_methods() -> None:
    def signatures(kind: type) -> dict[str, Any]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: inspect.signature(method).parameters for name, method in methods if not name.startswith("_")}

    assert signatures(AsyncClient) == signatures(Client)

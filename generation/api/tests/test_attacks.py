"""What an attacker would send, as far as it is not beside the tests of the part attacked.

spellings of private addresses, redirects, rebinding    test_outbound
pictures that unpack to gigabytes, animations, SVG      test_kinds
pickles and huge headers in LoRAs, names of LoRAs       test_loras
replayed and altered signatures of requests, webhooks   test_signatures, test_webhooks
other people's things, endpoint by endpoint             test_rights (docs/rights.md)
"""

import base64
import gzip
import json
import socket
import struct
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import uvicorn
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from fixtures.rows import Receiver, finish, picture_bytes
from generation.accounts import actor
from generation.accounts.models import ApiKey, Team, User
from generation.catalogue.models import ImageModel, Lora, Style
from generation.catalogue.tests.test_loras import lora_bytes
from generation.policy.models import BlockedTerm, PolicyProfile
from generation.tasks.models import Status, Task
from generation.webhooks.models import Delivery, WebhookEndpoint
from imagegenx_site.web_server import BoundedProtocol
from storage.signing import sign

GENERATE, IMG2IMG = "/api/v1/image/generate", "/api/v1/image/img2img"
SCRIPT = "\"><script>alert(7)</script><img src=x onerror=alert(7)>'{{7*7}}"


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User) -> Client:
    return client_of(owner)


def post(client: Client, path: str, body: Any) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json")


# ---- the admin


@pytest.fixture
def poisoned(client: Client, owner: User, make_task: Callable[..., Task]) -> Task:
    """Words of an attacker in everything that the admin shows."""
    task = finish(make_task(text=SCRIPT, style=SCRIPT[:50]))
    Task.objects.filter(pk=task.pk).update(
        error_code=SCRIPT[:50],
        error_message=SCRIPT,
        worker=SCRIPT,
        warnings=[SCRIPT],
        history=[{"at": SCRIPT, "to": SCRIPT, "reason": SCRIPT}],
        params={**task.params, "text": SCRIPT, "style_keywords": [SCRIPT]},
        callback_url="https://x.example/" + SCRIPT,
    )
    endpoint = WebhookEndpoint.objects.create(user=owner, url="https://x.example/" + SCRIPT)
    facts = {"task": task, "endpoint": endpoint, "event_id": "e", "event_type": "task.failed"}
    Delivery.objects.create(url=endpoint.url, log=[{"fault": SCRIPT}], **facts)
    actor.set_actor(owner)
    ApiKey.make(owner, name=SCRIPT)
    Style.objects.create(name="bad", title=SCRIPT, title_zh=SCRIPT, prompt=SCRIPT)
    Team.objects.create(name=SCRIPT, plan=owner.team.plan)  # type: ignore[union-attr]
    Lora.objects.create(name="bad", title=SCRIPT, sha256="0" * 64, source=SCRIPT, triggers=[SCRIPT], reason=SCRIPT)
    BlockedTerm.objects.create(term=SCRIPT)
    PolicyProfile.objects.create(name="bad", title=SCRIPT, subjects=[SCRIPT])
    ImageModel.objects.filter(name="mini").update(title=SCRIPT)
    actor.set_actor(None)
    return task


def test_no_word_of_a_client_becomes_script_in_the_admin(poisoned: Task, owner: User) -> None:
    User.objects.create_superuser("root", password="a long password")
    staff = Client()
    staff.login(username="root", password="a long password")
    tables = ("task", "style", "lora", "apikey", "team", "webhookendpoint", "delivery", "blockedterm", "policyprofile")
    pages = [f"/admin/generation/{table}/" for table in (*tables, "imagemodel", "policyrefusal", "user", "plan")]
    pages += [f"/admin/generation/task/{poisoned.pk}/change/", "/admin/generation/task/queues/"]
    pages += ["/admin/auditlog/logentry/", "/admin/", "/admin/generation/task/?q=" + SCRIPT]
    for row in (Style.objects.get(name="bad"), Lora.objects.get(), BlockedTerm.objects.get(term=SCRIPT)):
        pages.append(f"/admin/generation/{row._meta.model_name}/{row.pk}/change/")
    shown = 0
    for page in pages:
        text = staff.get(page).content.decode()
        assert "<script>alert(7)" not in text, page
        assert "<img src=x" not in text, page
        assert "&#x27;49" not in text, f"{page} computed what a client wrote"
        shown += "alert(7)" in text
    assert shown >= 12, "the words were there, and were only words"


# ---- bodies


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"text": ' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        '{"text": "x", "params": {"steps": ' + "9" * 10_000 + "}}",
        '{"text": "x", "params": {"steps": 1e999}}',
        '{"text": "x", "params": {"cfg_scale": NaN}}',
        '{"text": "x", "params": {"seed": -1e308}}',
        '{"text": "\\ud800"}',
        '{"text": "x", "params": {"loras": ' + "[" * 5000 + "]" * 5000 + "}}",
        '{"text": "x", "params": {"postprocess": ' + '{"a":' * 500 + "1" + "}" * 500 + "}}",
        "\x00",
        '{"text": "a\\u0000b"}',
    ],
)
def test_a_monstrous_body_is_the_senders_fault(client: Client, body: str) -> None:
    answer = client.post(GENERATE, body, content_type="application/json")
    assert answer.status_code == 400, answer.content[:300]
    assert answer.json()["data"]["errors"]
    assert Task.objects.count() == 0


@pytest.mark.parametrize("path", ["/v1/images/generations", "/sdapi/v1/txt2img", "/sdapi/v1/options"])
@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":' * 50_000, '{"prompt": ' + "9" * 10_000 + "}", "null", "\x00"])
def test_nor_does_one_break_the_compatible_endpoints(client: Client, path: str, body: str) -> None:
    answer = client.post(path, body, content_type="application/json")
    assert answer.status_code < 500, answer.content[:300]
    assert Task.objects.count() == 0


def test_a_packed_body_is_not_unpacked(client: Client) -> None:
    packed = gzip.compress(b" " * 10_000_000)
    answer = client.post(GENERATE, packed, content_type="application/json", headers={"content-encoding": "gzip"})
    assert answer.status_code == 400


def text_bomb() -> bytes:
    """A PNG whose note unpacks to 64 MiB."""
    plain = picture_bytes((16, 16))
    data = b"Comment\0\0" + zlib.compress(b"a" * (64 << 20), 9)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return plain[:33] + chunk + plain[33:]


def test_a_note_in_a_picture_that_unpacks_to_much_is_refused(client: Client) -> None:
    answer = post(client, IMG2IMG, {"text": "x", "image": base64.b64encode(text_bomb()).decode()})
    assert answer.status_code == 400
    assert answer.json()["data"]["errors"][0]["code"] == "not_a_picture"


# ---- addresses in requests


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "0x7f.1"])
@pytest.mark.parametrize("field", ["image", "mask"])
def test_a_picture_is_not_fetched_from_inside(client: Client, receiver: Receiver, host: str, field: str) -> None:
    port = receiver.url.rpartition(":")[2]
    inside = f"http://{host}:{port}/latest/meta-data/"
    body = {"text": "x", "image": base64.b64encode(picture_bytes()).decode(), "mask": inside, field: inside}
    answer = post(client, "/api/v1/image/inpaint", body)
    assert answer.status_code == 400
    assert {fault["code"] for fault in answer.json()["data"]["errors"]} == {"not_fetched"}
    assert receiver.got == []


def test_nor_by_a_redirect_from_an_allowed_address(client: Client, receiver: Receiver, settings: Any) -> None:
    settings.PRIVATE_CALLBACKS = ["127.0.0.1/32"]
    port = receiver.url.rpartition(":")[2]
    receiver.answers = [(302, {"location": f"http://127.0.0.2:{port}/secret"}, b"")]
    answer = post(client, IMG2IMG, {"text": "x", "image": receiver.url + "/start"})
    assert "private address" in answer.json()["data"]["errors"][0]["message"]
    assert [path for path, *_ in receiver.got] == ["/start"]


# ---- names and paths


@pytest.mark.parametrize("name", ["../../../tmp/x.safetensors", "/etc/passwd", "a\0b", "..\\..\\x", "x" * 5000])
def test_the_name_of_an_uploaded_file_is_never_a_path(client: Client, name: str, settings: Any) -> None:
    file = SimpleUploadedFile("x", lora_bytes())
    file.name = name
    client.post("/api/v1/lora/upload", {"name": "ink", "file": file})
    for row in Lora.objects.all():
        assert row.source == f"{settings.LORA_ROOT}/{row.sha256}.safetensors"


@pytest.mark.parametrize("path", ["../../etc/passwd", "..%2f..%2fetc/passwd", "images//etc/passwd", "raw/x", "%00"])
def test_no_file_beside_the_pictures_can_be_asked_for(client: Client, path: str) -> None:
    assert client.get(f"/files/{path}?expires=9999999999&signature=x").status_code in (403, 404)


@pytest.mark.parametrize("path", ["%2e%2e/%2e%2e/etc/passwd", "%00", "..%2f..%2fmanage.py", "x" * 3000])
def test_no_path_leads_out_of_the_static_files(live: str, path: str) -> None:
    assert httpx.get(f"{live}/static/{path}", trust_env=False).status_code == 404


# ---- numbers in headers and addresses


def test_times_of_thousands_of_digits_are_no_times(client: Client, owner: User) -> None:
    key = ApiKey.objects.get(user=owner)
    signed = {"x-key-id": key.prefix, "x-nonce": "12345678", "x-signature": "v1=x", "x-timestamp": "9" * 5000}
    assert Client().get("/api/v1/models", headers=signed).status_code == 401
    for expires in ("9" * 5000, "09999999999", "-1", "1e10"):
        path = "/files/images/x.webp"
        signature = sign(path, 9999999999)
        assert client.get(path, {"expires": expires, "signature": signature}).status_code == 403


# ---- other people's ids


def test_ids_of_others_open_nothing(
    client: Client, client_of: Callable[..., Client], make_user: Callable[..., User], make_task: Callable[..., Task]
) -> None:
    made = post(client, "/api/v1/image/batch-generate", {"texts": ["a star"]}).json()["data"]
    task = Task.objects.get()
    stranger = client_of(make_user("stranger"))
    history = "/api/v1/image/tasks"
    assert stranger.get(history, {"batch_id": made["batch_id"]}).json()["data"]["items"] == []
    assert stranger.get(history, {"cursor": task.public_id, "team": "true"}).json()["data"]["items"] == []
    headers = {"idempotency-key": "same"}
    body = json.dumps({"text": "mine"})
    first = client.post(GENERATE, body, content_type="application/json", headers=headers).json()["data"]
    other = stranger.post(GENERATE, body, content_type="application/json", headers=headers).json()["data"]
    assert first["task_id"] != other["task_id"]
    own = make_task(Status.SUCCEEDED).public_id
    mixed = {"task_ids": [other["task_id"], own]}
    assert post(stranger, "/api/v1/image/download", mixed).status_code == 404


# ---- headers, over a real socket


def ask(address: str, head: bytes) -> bytes:
    """The first bytes of the answer; nothing when the server hung up."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        try:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
            return connection.recv(64)
        except (ConnectionError, BrokenPipeError):
            return b""


@pytest.mark.parametrize(
    "head",
    [
        b"Authorization: Bearer " + b"a" * (2 << 20),
        b"\r\n".join(b"X-%d: y" % number for number in range(100_000)),
        b"X: a\r\nContent-Length: 5\r\nContent-Length: 6",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"X: \x00",
    ],
    ids=["long", "many", "two lengths", "two framings", "null"],
)
def test_a_monstrous_head_is_refused_and_the_next_request_answered(live: str, head: bytes) -> None:
    assert not ask(live, head).startswith((b"HTTP/1.1 2", b"HTTP/1.1 5"))
    assert httpx.get(f"{live}/healthz", timeout=20).status_code == 200


def test_the_web_process_is_started_with_that_bound() -> None:
    config = uvicorn.Config("imagegenx_site.asgi:application")
    config.load()
    assert config.http_protocol_class is BoundedProtocol

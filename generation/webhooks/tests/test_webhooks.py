"""Webhooks over real sockets: signed so that the reference library verifies them, repeated, given up, sent again."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from openai import OpenAI
from replicate.webhook import Webhooks, WebhookSigningSecret
from standardwebhooks import Webhook, WebhookVerificationError
from svix.webhooks import Webhook as SvixWebhook

from fixtures.rows import Receiver, finish
from generation.accounts.models import User
from generation.api import webhooks as webhooks_view
from generation.tasks import outbox
from generation.tasks.models import Task
from generation.webhooks import delivery as webhooks_delivery
from generation.webhooks.models import Delivery, WebhookEndpoint, new_secret

MakeTask = Callable[..., Task]
WEBHOOKS = "/api/v1/webhooks"


@pytest.fixture
def client(client_of: Callable[..., Client], owner: User, settings: Any) -> Client:
    settings.PRIVATE_CALLBACKS = ["127.0.0.1/32"]
    settings.PUBLIC_URL = "https://images.example"
    return client_of(owner)


def call(client: Client, method: str, path: str, body: Any = None) -> Any:
    return client.generic(method, path, json.dumps(body or {}), content_type="application/json")


def register(client: Client, url: str, **more: Any) -> dict[str, Any]:
    response = call(client, "POST", WEBHOOKS, {"url": url, **more})
    assert response.status_code == 201, response.content
    data: dict[str, Any] = response.json()["data"]
    return data


def deliveries_of(task: Task) -> list[Delivery]:
    """The deliveries of an ended task, as the notify stage writes them."""
    outbox.write_delivery(task.id)
    return list(Delivery.objects.filter(task=task).order_by("endpoint_id"))


def due_now() -> None:
    Delivery.objects.update(next_at=timezone.now())


def test_the_reference_library_verifies_what_arrives(client: Client, receiver: Receiver, make_task: MakeTask) -> None:
    endpoint = register(client, f"{receiver.url}/hook")
    [delivery] = deliveries_of(finish(make_task()))
    assert outbox.send(delivery.id)
    [(path, headers, body)] = receiver.got
    assert path == "/hook"
    event = Webhook(endpoint["secret"]).verify(body, headers)
    assert event["type"] == "task.succeeded"
    assert event["data"]["task_id"] == Task.objects.get().public_id
    assert event["data"]["outputs"][0]["url"].startswith("https://images.example/files/")
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint["secret"]).verify(body.replace(b"succeeded", b"failed"), headers)
    assert not outbox.send(delivery.id), "a delivered event is not sent again"


def by_standardwebhooks(secret: str, body: bytes, headers: dict[str, str]) -> None:
    Webhook(secret).verify(body, headers)


def by_svix(secret: str, body: bytes, headers: dict[str, str]) -> None:
    SvixWebhook(secret).verify(body, headers)


def by_openai(secret: str, body: bytes, headers: dict[str, str]) -> None:
    OpenAI(api_key="unused", webhook_secret=secret).webhooks.verify_signature(body, headers)


def by_replicate(secret: str, body: bytes, headers: dict[str, str]) -> None:
    Webhooks.validate(headers=headers, body=body.decode(), secret=WebhookSigningSecret(key=secret))


@pytest.mark.parametrize("verify", [by_standardwebhooks, by_svix, by_openai, by_replicate])
def test_other_verifiers_accept_deliveries_and_refuse_forgeries(
    client: Client, receiver: Receiver, make_task: MakeTask, verify: Callable[[str, bytes, dict], None]
) -> None:
    secret = register(client, f"{receiver.url}/hook")["secret"]
    [delivery] = deliveries_of(finish(make_task(text="雪中的红狐狸")))
    assert outbox.send(delivery.id)
    [(_, headers, body)] = receiver.got
    assert "雪中的红狐狸" in body.decode()
    verify(secret, body, headers)
    hour_ago = str(int(headers["webhook-timestamp"]) - 3600)
    wrong = [
        (new_secret(), body, headers),
        (secret, body + b" ", headers),
        (secret, body, {**headers, "webhook-id": "evt_other"}),
        (secret, body, {**headers, "webhook-timestamp": hour_ago}),
        (secret, body, {**headers, "webhook-signature": headers["webhook-signature"].swapcase()}),
    ]
    for attempt in wrong:
        with pytest.raises(Exception, match=r"(?i)signature|timestamp|webhook"):
            verify(*attempt)


def test_both_secrets_verify_after_a_rotation(client: Client, receiver: Receiver, make_task: MakeTask) -> None:
    endpoint = register(client, f"{receiver.url}/hook")
    new = call(client, "POST", f"{WEBHOOKS}/{endpoint['id']}/rotate").json()["data"]["secret"]
    assert new != endpoint["secret"]
    [delivery] = deliveries_of(finish(make_task()))
    outbox.send(delivery.id)
    _, headers, body = receiver.got[0]
    for secret in (new, endpoint["secret"]):
        Webhook(secret).verify(body, headers)


@pytest.mark.django_db(transaction=True)
def test_of_two_rotations_at_once_both_secrets_sign(client: Client, receiver: Receiver) -> None:
    endpoint = register(client, f"{receiver.url}/hook")
    path = f"{WEBHOOKS}/{endpoint['id']}/rotate"

    def rotate(_: int) -> str:
        try:
            return str(call(client, "POST", path).json()["data"]["secret"])
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        secrets = list(threads.map(rotate, range(2)))
    row = WebhookEndpoint.objects.get(pk=endpoint["id"])
    assert {row.secret, row.previous_secret} == set(secrets)


@pytest.mark.parametrize(("method", "path"), [("PATCH", ""), ("POST", "/rotate")])
def test_an_endpoint_that_is_deleted_meanwhile_is_not_there(
    client: Client, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    endpoint = register(client, f"{receiver.url}/hook")
    find = webhooks_view._find

    def found_and_deleted(*asked: Any, **how: Any) -> WebhookEndpoint:
        row = find(*asked, **how)
        WebhookEndpoint.objects.filter(pk=row.pk).delete()
        return row

    monkeypatch.setattr(webhooks_view, "_find", found_and_deleted)
    assert call(client, method, f"{WEBHOOKS}/{endpoint['id']}{path}", {"enabled": False}).status_code == 404


def test_a_callback_is_signed_with_the_accounts_secret(client: Client, receiver: Receiver, make_task: MakeTask) -> None:
    task = finish(make_task(callback_url=f"{receiver.url}/mine"))
    [delivery] = deliveries_of(task)
    outbox.send(delivery.id)
    secret = client.get(WEBHOOKS).json()["data"]["callbacks"]["secret"]
    Webhook(secret).verify(receiver.got[0][2], receiver.got[0][1])


def test_a_failed_attempt_is_retried_with_the_same_id(client: Client, receiver: Receiver, make_task: MakeTask) -> None:
    register(client, receiver.url)
    receiver.answers = [(500, {}, b""), (302, {"location": f"{receiver.url}/else"}, b""), (200, {}, b"")]
    [delivery] = deliveries_of(finish(make_task()))
    for expected in (False, False, True):
        due_now()
        assert outbox.send(delivery.id) is expected
    ids = {headers["webhook-id"] for _, headers, _ in receiver.got}
    assert (len(receiver.got), len(ids)) == (3, 1), "a redirect is not followed"
    delivery.refresh_from_db()
    assert [entry["status"] for entry in delivery.log] == [500, 302, 200]


def test_retries_back_off_over_about_a_day(client: Client, receiver: Receiver, make_task: MakeTask) -> None:
    register(client, receiver.url)
    receiver.answers = [(500, {}, b"")]
    [delivery] = deliveries_of(finish(make_task()))
    waits = []
    for _ in webhooks_delivery.BACKOFF_S:
        due_now()
        outbox.send(delivery.id)
        delivery.refresh_from_db()
        waits.append((delivery.next_at - timezone.now()).total_seconds())
    assert waits == sorted(waits)
    assert 24 * 3600 < sum(waits) < 48 * 3600
    due_now()
    outbox.send(delivery.id)
    delivery.refresh_from_db()
    assert delivery.state == Delivery.State.GIVEN_UP


def test_an_endpoint_is_disabled_after_events_in_a_row_were_given_up(
    client: Client, receiver: Receiver, make_task: MakeTask, settings: Any
) -> None:
    settings.WEBHOOK_GIVE_UP_AFTER = 2
    endpoint = register(client, receiver.url)
    receiver.answers = [(500, {}, b"")]
    for _ in range(2):
        [delivery] = deliveries_of(finish(make_task()))
        Delivery.objects.filter(pk=delivery.pk).update(attempts=len(webhooks_delivery.BACKOFF_S))
        outbox.send(delivery.id)
    [listed] = client.get(WEBHOOKS).json()["data"]["items"]
    assert (listed["enabled"], listed["disabled_reason"]) == (False, "2 events in a row could not be delivered")
    assert deliveries_of(finish(make_task())) == []
    back = call(client, "PATCH", f"{WEBHOOKS}/{endpoint['id']}", {"enabled": True}).json()["data"]
    assert back["enabled"]


def test_410_gone_disables_the_endpoint(client: Client, receiver: Receiver, make_task: MakeTask) -> None:
    register(client, receiver.url)
    receiver.answers = [(410, {}, b"")]
    [delivery] = deliveries_of(finish(make_task()))
    outbox.send(delivery.id)
    assert WebhookEndpoint.objects.exclude(url="").get().disabled_reason == "the receiver answered 410 Gone"


def test_a_delivery_can_be_sent_again(client: Client, receiver: Receiver, make_task: MakeTask) -> None:
    endpoint = register(client, receiver.url)
    [delivery] = deliveries_of(finish(make_task()))
    outbox.send(delivery.id)
    [line] = client.get(f"{WEBHOOKS}/{endpoint['id']}/deliveries").json()["data"]["items"]
    assert (line["state"], line["attempts"][0]["status"]) == ("delivered", 204)
    assert call(client, "POST", f"{WEBHOOKS}/deliveries/{line['id']}/send").status_code == 200
    assert webhooks_delivery.due() == {2: [delivery.id]}
    assert outbox.send(delivery.id)
    assert receiver.got[0][1]["webhook-id"] == receiver.got[1][1]["webhook-id"]


def test_only_chosen_events_are_sent(client: Client, receiver: Receiver, make_task: MakeTask) -> None:
    register(client, receiver.url, events=["task.failed"])
    assert deliveries_of(finish(make_task())) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://testserver/api/v1/image/generate",
        "https://images.example/x",
        "ftp://x",
        "http://",
        "http://a:b@c/",
        "x" * 2001,
    ],
)
def test_urls_that_can_never_be_called_are_refused(client: Client, url: str) -> None:
    assert call(client, "POST", WEBHOOKS, {"url": url}).status_code == 400
    body = {"text": "x", "callback_url": url}
    assert call(client, "POST", "/api/v1/image/generate", body).status_code == 400
    assert (Task.objects.count(), WebhookEndpoint.objects.count()) == (0, 0)


def test_a_private_address_is_not_called(
    client: Client, receiver: Receiver, make_task: MakeTask, settings: Any
) -> None:
    """Allowed when the endpoint was made, and not any more."""
    register(client, receiver.url)
    settings.PRIVATE_CALLBACKS = []
    assert call(client, "POST", WEBHOOKS, {"url": "http://10.0.0.7/hook"}).status_code == 400
    [delivery] = deliveries_of(finish(make_task()))
    assert not outbox.send(delivery.id)
    delivery.refresh_from_db()
    assert "private address" in delivery.log[0]["fault"]
    assert receiver.got == []


def test_strangers_and_the_default_endpoint(client: Client, client_of: Any, make_user: Any, receiver: Receiver) -> None:
    endpoint = register(client, receiver.url)
    assert call(client, "POST", WEBHOOKS, {"url": receiver.url}).status_code == 409
    stranger = client_of(make_user("stranger"))
    path = f"{WEBHOOKS}/{endpoint['id']}"
    answers = [call(stranger, "PATCH", path), call(stranger, "DELETE", path), call(stranger, "POST", f"{path}/rotate")]
    assert [answer.status_code for answer in [*answers, stranger.get(f"{path}/deliveries")]] == [404] * 4
    default = client.get(WEBHOOKS).json()["data"]["callbacks"]["id"]
    assert call(client, "DELETE", f"{WEBHOOKS}/{default}").status_code == 400
    assert call(client, "DELETE", path).status_code == 200

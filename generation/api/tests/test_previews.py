"""Previews of control pictures and watermarks: made by a CPU worker, bounded, and never waited for longer than told."""

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from django.test import Client
from PIL import Image as Pillow

from generation.accounts.models import User
from generation.api.previews import pictures
from generation.policy import rules
from generation.policy.models import BlockedTerm, PolicyRefusal
from generation.tasks.previews import exchange
from imagegenx_site import redis_clients
from workers.stages import preview as stage


def picture(size: tuple[int, int] = (400, 300)) -> Pillow.Image:
    """A white square on black."""
    made = Pillow.new("RGB", size)
    made.paste("white", (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
    return made


def text_of(made: Pillow.Image) -> str:
    written = io.BytesIO()
    made.save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


@pytest.fixture
def client(owner: User, client_of: Callable[..., Client]) -> Client:
    return client_of(owner)


@pytest.fixture
def worker() -> Iterator[None]:
    """What a CPU worker does with the messages of its queue."""
    over = threading.Event()

    def work() -> None:
        client = redis_clients.bytes_client()
        while not over.is_set():
            if client.rpop(exchange.QUEUE):
                for key in client.scan_iter("gx:preview:asked:*"):
                    stage.preview(key.decode().rpartition(":")[2])
            time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    over.set()
    thread.join()


def ask(client: Client, **body: Any) -> Any:
    return client.post("/api/v1/image/preview", body, content_type="application/json")


def opened(answer: Any) -> np.ndarray:
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/png"), answer.content
    return np.asarray(Pillow.open(io.BytesIO(answer.content)).convert("L"))


def test_edges_are_shown_as_the_model_gets_them(client: Client, worker: None) -> None:
    colours = picture((2048, 1024))
    colours.paste("red", (0, 0, 300, 300))
    edges = opened(ask(client, image=text_of(colours), control_type="canny", control_ready=False))
    assert edges.shape == (512, 1024)
    assert set(np.unique(edges)) == {0, 255}
    assert 0.001 < (edges == 255).mean() < 0.1
    ready = picture()
    same = opened(ask(client, image=text_of(ready), control_type="canny", control_ready=True))
    assert np.array_equal(same, np.asarray(ready.convert("L")))
    assert not list(redis_clients.bytes_client().scan_iter("gx:preview:*"))


def test_a_watermark_is_shown_on_the_picture(client: Client, worker: None) -> None:
    mark = {"kind": "text", "text": "小熊 shop", "position": "center"}
    shown = opened(ask(client, image=text_of(picture()), watermark=mark))
    change = np.abs(shown.astype(int) - np.asarray(picture().convert("L")))
    assert change[130:170, 150:250].max() > 20
    assert change[:50].max() == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "required"),
        ({"control_type": "canny", "watermark": {"kind": "text", "text": "x"}}, "required"),
        ({"control_type": "depth"}, "not_available"),
        ({"control_type": "lines"}, "not_allowed"),
        ({"watermark": {"kind": "smoke"}}, "not_allowed"),
        ({"watermark": {"kind": "text", "text": "many words " * 9}, "image": text_of(picture((64, 48)))}, "too_long"),
        ({"control_type": "canny", "image": "https://shop.example/x.png"}, "malformed"),
        ({"control_type": "canny", "image": "QUJD"}, "not_a_picture"),
    ],
)
def test_what_can_not_be_shown_is_refused_in_words(client: Client, body: dict[str, Any], code: str) -> None:
    colours = picture()
    colours.paste("red", (0, 0, 200, 300))
    answer = ask(client, **{"image": text_of(colours), **body})
    assert answer.status_code == 400
    assert answer.json()["data"]["errors"][0]["code"] == code
    assert redis_clients.bytes_client().llen(exchange.QUEUE) == 0


@pytest.mark.parametrize(
    "mark", [{"kind": "text", "text": "a b.l.o.o.d"}, {"kind": "qr", "text": "https://x.example/%62lood"}]
)
def test_blocked_words_are_not_shown_either(client: Client, owner: User, mark: dict[str, Any]) -> None:
    BlockedTerm.objects.create(term="blood")
    rules.reload()
    refused = ask(client, image=text_of(picture()), watermark=mark)
    assert refused.status_code == 400
    assert {fault["field"] for fault in refused.json()["data"]["errors"]} == {"watermark"}
    assert not list(redis_clients.bytes_client().scan_iter("gx:preview:*"))
    assert PolicyRefusal.objects.get().kind == "preview"


def test_without_a_worker_the_wait_ends_and_nothing_is_left(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PATIENCE_S", 0.2)
    answer = ask(client, image=text_of(picture()), control_type="canny")
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert not list(redis_clients.bytes_client().scan_iter("gx:preview:*"))
    for _ in range(3):
        assert ask(client, image=text_of(picture()), control_type="canny").status_code == 503, "slots are given back"
    redis_clients.bytes_client().delete(exchange.QUEUE)


def test_previews_of_a_user_are_bounded(client: Client, owner: User) -> None:
    with pictures._waiting.hold((f"user {owner.pk}", 2)), pictures._waiting.hold((f"user {owner.pk}", 2)):
        assert ask(client, image=text_of(picture()), control_type="canny").status_code == 429


def test_the_web_process_waits_without_a_thread(
    live: str, owner: User, key_of: Callable[..., str], worker: None
) -> None:
    import httpx

    headers = {"authorization": f"Bearer {key_of(owner)}"}
    body = {"image": text_of(picture()), "control_type": "canny"}
    answer = httpx.post(f"{live}/api/v1/image/preview", json=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.content.startswith(b"\x89PNG")
    refused = httpx.post(
        f"{live}/api/v1/image/preview", json={**body, "control_type": "depth", "image": "x"}, headers=headers
    )
    assert refused.status_code == 400

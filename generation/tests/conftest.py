"""What the tests of this package begin with: a seeded database, people of every kind, and a way to make tasks."""

import asyncio
import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from PIL import Image as Pillow

from generation import catalogue, events, lifecycle, partitions, policy
from generation.models import ApiKey, Image, ImageModel, Lora, Plan, Status, Task, Team, User
from generation.parameters import Parameters
from generation.uuid7 import image_id, moment_of, uuid7
from storage import keys
from storage.store import get_store


@pytest.fixture(autouse=True)
def fresh_limits() -> None:
    """Counts and caches of earlier tests don't matter: ids of rows come again when a database is emptied."""
    found = [key for start in ("rl:*", "gx:cache:*") for key in events.client().scan_iter(start, count=1000)]
    if found:
        events.client().delete(*found)


@pytest.fixture(autouse=True)
def own_folders(settings: Any, tmp_path: Path) -> None:
    """Pictures and LoRAs of a test lie in its own folder."""
    disk = {"BACKEND": "django.core.files.storage.FileSystemStorage"}
    settings.STORAGES = settings.STORAGES | {
        name: {**disk, "OPTIONS": {"location": str(tmp_path / name), "base_url": None}} for name in ("images", "raw")
    }
    settings.SPOOL_ROOT = str(tmp_path / "spool")
    settings.LORA_ROOT = str(tmp_path / "loras")


@pytest.fixture
def seeded(db: None) -> None:
    """The built-in plans, models and styles, and partitions for today. LoRAs are made by the tests that need some."""
    call_command("seed", verbosity=0)
    Lora.objects.all().delete()
    partitions.ensure(datetime.now(UTC).date(), 2)
    catalogue.forget()
    policy.forget()


@pytest.fixture
def able_model(seeded: None) -> ImageModel:
    """A model that can do everything, the default for what `mini` can't."""
    sides = {"max_side": 2048, "default_width": 512, "default_height": 512}
    kinds = ["text2img", "img2img", "inpaint", "controlnet"]
    options = {"controlnets": {kind: kind for kind in ("canny", "depth", "openpose")}}
    model = ImageModel.objects.create(
        name="able", title="Able", family="sd15", source="able", kinds=kinds, options=options, **sides
    )
    catalogue.forget()
    return model


@pytest.fixture
def make_user(seeded: None) -> Callable[..., User]:
    """Makes a user in a team of its own, or in the named one."""

    def make(name: str, team: str = "", plan: str = "paid") -> User:
        row, _ = Team.objects.get_or_create(name=team or name, defaults={"plan": Plan.objects.get(name=plan)})
        return User.objects.create(username=name, team=row)

    return make


@pytest.fixture
def owner(make_user: Callable[..., User]) -> User:
    return make_user("owner", team="shop")


@pytest.fixture
def make_task(owner: User) -> Callable[..., Task]:
    """Makes a task row in any state, as if it had come that far."""

    def make(status: str = Status.QUEUED, **changes: Any) -> Task:
        model = ImageModel.objects.get(name="mini")
        request: dict[str, Any] = {
            "width": 256,
            "height": 256,
            "steps": 4,
            "cfg_scale": 4.0,
            "sampler": "euler",
            "seed": 7,
        }
        parameters = Parameters(kind="text2img", text="red circle", negative_text="", **request)
        task_id = changes.pop("id", None) or uuid7()
        fields: dict[str, Any] = {
            "user": owner,
            "kind": "text2img",
            "status": status,
            "model": model,
            "model_key": model.key,
            "text": "red circle",
            "params": parameters.to_json(),
            "width": 256,
            "height": 256,
            "batch_key": parameters.batch_key(model.key),
            "created_at": moment_of(task_id),
            "expires_at": timezone.now() + timedelta(minutes=5),
        }
        return Task.objects.create(id=task_id, **(fields | changes))

    return make


@pytest.fixture
def key_of(seeded: None) -> Callable[..., str]:
    """A new API key of a user, as text."""

    def make(user: User, **fields: Any) -> str:
        return ApiKey.make(user, **fields)[1]

    return make


@pytest.fixture
def client_of(key_of: Callable[..., str]) -> Callable[..., Client]:
    """An HTTP client that sends a key of the user."""

    def make(user: User, **fields: Any) -> Client:
        return Client(headers={"authorization": f"Bearer {key_of(user, **fields)}"})

    return make


def picture_bytes(size: tuple[int, int] = (64, 64), kind: str = "PNG", colour: str = "red", **how: Any) -> bytes:
    """A small picture of one colour."""
    written = io.BytesIO()
    Pillow.new("RGB", size, colour).save(written, kind, **how)
    return written.getvalue()


def finish(task: Task, count: int = 1) -> Task:
    """Bring a queued task to its end the way the workers do, with pictures in the store."""
    [claimed] = lifecycle.claim([task.id], "w1")
    lifecycle.mark_generated(task.id, worker="w1", attempt=claimed.attempt)
    for stage, mark in (("postprocess", lifecycle.mark_processed), ("upload", lifecycle.mark_stored)):
        lifecycle.take_stage(task.id, stage, "w1", 60)
        if stage == "upload":
            for index in range(count):
                keep_picture(task, index)
        mark(task.id, owner="w1")
    lifecycle.take_stage(task.id, "notify", "w1", 60)
    lifecycle.mark_succeeded(task.id, owner="w1")
    task.refresh_from_db()
    return task


def keep_picture(task: Task, index: int) -> Image:
    """Picture number `index` of the task, in the store and as a row."""
    data = picture_bytes((256, 256), "WEBP")
    sha256 = hashlib.sha256(data).hexdigest()
    key = keys.image_key(task.id, index, sha256, "image/webp")
    small = keys.variant_key(key, "thumbs")
    for name in (key, small):
        get_store("images").put(name, data, "image/webp")
    facts = {"width": 256, "height": 256, "bytes": len(data), "sha256": sha256, "content_type": "image/webp"}
    return Image.objects.create(
        id=image_id(task.id, index),
        task=task,
        index=index,
        seed=7,
        key=key,
        thumbnail_key=small,
        format="webp",
        **facts,
    )


@dataclass
class Receiver:
    """An HTTP server that remembers what it was sent as (path, headers, body), and answers what `answers` says."""

    url: str
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server on this machine; the last of its `answers` is given for ever."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            taken.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            answers = taken.answers or [(204, {}, b"")]
            status, headers, data = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST

        def log_message(self, *args: Any) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taken = Receiver(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield taken
    server.shutdown()
    server.server_close()


@pytest.fixture
def live(transactional_db: None, seeded: None, settings: Any) -> Iterator[str]:
    """The product's web process over ASGI, in a thread of this one: its address."""
    settings.ALLOWED_HOSTS = ["*"]
    from imagegenx_site.asgi import make_application
    from imagegenx_site.web import BoundedProtocol

    application = make_application()
    config = uvicorn.Config(application, port=0, log_level="error", lifespan="off", http=BoundedProtocol)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    server.force_exit = True
    thread.join(20)
    asyncio.run(application.close())

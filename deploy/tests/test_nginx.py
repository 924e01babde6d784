"""The rules of deploy/nginx, run by a real nginx before a real web process of the product."""

import http.client
import io
import json
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

import pytest
from django.conf import settings
from django.db import connection
from redis import Redis
from websockets.sync.client import connect

from deploy.services import free_port
from deploy.tests import nginx
from fixtures.fleet import Fleet
from fixtures.rows import finish, fresh_limits  # noqa: F401  # a fixture, automatic
from generation.accounts.models import ApiKey, User
from generation.tasks import events
from generation.tasks.models import Task
from storage import signing

pytestmark = pytest.mark.django_db(transaction=True)
FASTER = 15  # waits for answers, in nginx and in the product, are so many times shorter
WAIT_S, COMPAT_WAIT_S = (
    4,
    7,
)  # MAX_WAIT_SECONDS / FASTER; and more than what locations without a time of their own allow
MIB = 1 << 20
CLIENT = "127.0.0.7"


@pytest.fixture(scope="module")
def front(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, str]]:
    """A web process and the address of the nginx before it."""
    try:
        nginx.program()
    except nginx.NoNginx as reason:
        pytest.skip(str(reason))
    folder = tmp_path_factory.mktemp("front")
    parts, port = connection.settings_dict, free_port()
    account = f"{quote(parts['USER'])}:{quote(parts['PASSWORD'] or '')}"
    env = {
        "DATABASE_URL": f"postgres://{account}@{parts['HOST']}:{parts['PORT']}/{parts['NAME']}",
        "REDIS_URL": settings.REDIS_URL,
        "SECRET_KEY": settings.SECRET_KEY,
        "MEDIA_ROOT": str(folder / "media"),
        "PORT": str(port),
        "TRUSTED_PROXIES": "1",
        "MAX_WAIT_SECONDS": str(WAIT_S),
        "COMPAT_WAIT_SECONDS": str(COMPAT_WAIT_S),
    }
    fleet = Fleet(folder, env)
    try:
        fleet.start("web1")
        with nginx.running(folder, port, FASTER) as address:
            yield fleet, address
    finally:
        fleet.stop(*fleet.processes)


@pytest.fixture
def key(owner: User) -> str:
    return ApiKey.make(owner)[1]


@pytest.fixture(autouse=True)
def same_store(front: tuple[Fleet, str], settings) -> None:
    """Pictures of the test lie where the web process looks for them."""
    options = {"location": str(front[0].folder / "media"), "base_url": None}
    settings.STORAGES = settings.STORAGES | {"images": {**settings.STORAGES["images"], "OPTIONS": options}}


Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture
def ask(front: tuple[Fleet, str]) -> Callable[..., Answer]:
    """Sends one request through nginx: status, headers by their lower-case names, body."""
    where = urlsplit(front[1])

    def send(method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        host, port = str(where.hostname), where.port
        line = http.client.HTTPConnection(host, port, timeout=60, source_address=(CLIENT, 0))
        try:
            line.request(method, path, body or None, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = line.getresponse()
            return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
        finally:
            line.close()

    return send


def as_json(key: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", "content_type": "application/json", **more}


def test_the_product_gets_the_clients_real_address(ask, seeded: None) -> None:
    redis = Redis.from_url(settings.REDIS_URL, decode_responses=True)
    for counted in redis.keys("rl:ip:*"):
        redis.delete(counted)
    assert ask("GET", "/api/v1/models", x_forwarded_for="9.9.9.9", authorization="Bearer wrong")[0] == 401
    assert [name.rpartition(":")[2] for name in redis.keys("rl:ip:*")] == [CLIENT]


def test_what_is_for_monitoring_is_not_for_everybody_and_answers_tell_no_versions(ask) -> None:
    for path in ("/metrics", "//metrics", "/%6detrics", "/./metrics?x=1", "/healthz/workers", "/healthz//workers"):
        assert ask("GET", path, x_forwarded_for="127.0.0.1")[0] == 404, path
    status, headers, body = ask("GET", "/healthz", x_request_id="mine")
    assert (status, json.loads(body), headers["x-request-id"]) == (200, {"status": "ok"}, "mine")
    assert headers["server"] == "nginx"
    assert headers["x-content-type-options"] == "nosniff"


def test_a_picture_of_20_mib_passes_and_a_body_beyond_the_limit_is_refused_in_the_products_form(ask, key) -> None:
    padded = json.dumps({"text": "a cat", "image": "QUJD" * (20 * MIB // 3)}).encode()
    status, _, body = ask("POST", "/api/v1/image/img2img", padded, **as_json(key))
    assert status in (400, 422), "the product read all of it, and found that it is no picture"
    assert b"image" in body
    status, headers, body = ask("POST", "/api/v1/image/img2img", content_length=str(64 * MIB + 1), **as_json(key))
    assert (status, headers["content-type"], json.loads(body)["code"]) == (413, "application/json", 413)


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/keys", "/accounts/login/", "/"])
def test_where_no_pictures_come_in_bodies_are_small(ask, path: str) -> None:
    status, _, body = ask("POST", path, content_length=str(MIB + 1), content_type="application/json")
    assert (status, json.loads(body)["code"]) == (413, 413)


def test_a_lora_may_be_larger_than_other_bodies(ask, seeded: None) -> None:
    form = {"content_type": "multipart/form-data; boundary=x", "authorization": "Bearer wrong"}
    assert ask("POST", "/api/v1/lora/upload", bytes(65 * MIB), **form)[0] == 401
    status, _, body = ask("POST", "/api/v1/lora/upload", content_length=str(1100 * MIB), **form)
    assert (status, json.loads(body)["code"]) == (413, 413)


def test_events_come_one_by_one_while_the_stream_is_open(front, key, make_task: Callable[..., Task]) -> None:
    task, where = make_task(), urlsplit(front[1])
    with socket.create_connection((where.hostname, where.port), 20) as line, line.makefile("rb") as stream:
        head = f"GET /api/v1/image/task/{task.public_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        line.sendall(f"{head}Authorization: Bearer {key}\r\n\r\n".encode())
        read_until(stream, b"event: task")
        for step in (1, 2):
            events.publish_progress(task.id, 10 * step, step, 2)
            read_until(stream, f'"step": {step}'.encode())


@pytest.mark.parametrize("path", ["/ws", "/api/ws"])
def test_a_websocket_goes_through(front, key, seeded: None, path: str) -> None:
    where = urlsplit(front[1])
    address = f"ws://{where.hostname}:{where.port}{path}?clientId=me"
    with connect(address, additional_headers={"Authorization": f"Bearer {key}"}, proxy=None) as opened:
        assert json.loads(opened.recv(20))["data"]["sid"] == "me"


def read_until(stream: io.BufferedReader, expected: bytes) -> None:
    while expected not in (line := stream.readline()):
        assert line, f"the stream ended before {expected!r}"


def test_files_and_zips_come_whole_and_leave_no_copy_on_nginx_disk(front, ask, key, make_task) -> None:
    task = finish(make_task())
    (image,) = task.images.all()
    path = f"/files/{image.key}"
    status, headers, data = ask("GET", f"{path}?{signing.signed_query(path, 60)}")
    assert (status, headers["content-type"], len(data)) == (200, "image/webp", image.bytes)
    status, _, data = ask(
        "POST", "/api/v1/image/download", json.dumps({"task_ids": [task.public_id]}).encode(), **as_json(key)
    )
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 1
    assert "buffered to a temporary file" not in "".join(
        line for line in (front[0].folder / "error.log").read_text().splitlines() if "upstream response" in line
    )


def test_answers_that_wait_for_pictures_are_not_cut_off(ask, key) -> None:
    prefer = json.dumps({"text": "a cat", "params": {"resolution": "256x256"}}).encode()
    images = json.dumps({"prompt": "a cat", "size": "256x256"}).encode()
    known_by = (
        time.monotonic() + 10
    )  # the web process may still know the models of the test before, in another database
    while ask("POST", "/api/v1/image/generate", prefer, **as_json(key))[0] != 202:
        assert time.monotonic() < known_by
        time.sleep(0.2)
    with ThreadPoolExecutor(2) as both:
        begin = time.monotonic()
        waited = both.submit(ask, "POST", "/api/v1/image/generate", prefer, **as_json(key, prefer="wait=600"))
        compat = both.submit(ask, "POST", "/v1/images/generations", images, **as_json(key))
        status, headers, _ = waited.result()
        assert (status, headers["preference-applied"]) == (202, f"wait={WAIT_S}")
        status, _, body = compat.result()
        assert time.monotonic() - begin > COMPAT_WAIT_S
        assert (status, json.loads(body)["error"]["code"]) == (504, "timeout"), "the product's own sentence"


def test_the_waits_of_the_rules_are_longer_than_those_of_the_product() -> None:
    rules = nginx.RULES.read_text()
    common, compat = (nginx.seconds_of(found) for found in nginx.read_timeouts(rules)[:2])
    assert common > settings.MAX_WAIT_SECONDS
    assert compat > settings.COMPAT_WAIT_SECONDS
    assert f"client_max_body_size {settings.MAX_BODY_BYTES // MIB}m;" in rules


def test_a_web_process_that_is_away_is_told_in_the_products_form(front, ask) -> None:
    fleet, _ = front
    fleet.stop("web1")
    status, headers, body = ask("GET", "/api/v1/models")
    assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "2", 503)
    fleet.start("web1")
    assert ask("GET", "/healthz")[0] == 200

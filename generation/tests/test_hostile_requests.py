"""No request of a client breaks anything: every door, every address, hostile values everywhere.

The quick run belongs to the suite; `make test-attacks` (TEST_ATTACKS=1, `-m attacks`) sends many times as much.
"""

import contextlib
import itertools
import json
import random
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import schemathesis
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings

from fixtures.rows import finish
from generation.accounts.models import Plan, User
from generation.tasks.models import Task
from generation.tests import hostile
from generation.tests.hostile import HEADERS, LONG, QUERIES, SEGMENTS, TEXTS, VALUES, Watch, json_text, planted

pytestmark = [pytest.mark.attacks, pytest.mark.django_db(transaction=True)]
SEED = 11
PARTS = 3  # of the operations, a test each
CASES = 60 if LONG else 2  # of each operation
PLANTED = 10 if LONG else 4  # values in each case
_QUICK = hypothesis_settings(
    max_examples=CASES,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    with made.watching():
        yield made


@pytest.fixture
def http(live: str, owner: User, key_of: Callable[..., str], settings: Any) -> Iterator[httpx.Client]:
    """With a key that may do everything, as often as it likes."""
    Plan.objects.update(requests_per_second=1_000_000, concurrent_tasks=None, lora_upload=True)
    settings.ANONYMOUS_RPS = 1_000_000
    settings.COMPAT_WAIT_SECONDS = 0.01
    settings.MAX_WAIT_SECONDS = 0.01
    headers = {"authorization": f"Bearer {key_of(owner)}"}
    with httpx.Client(base_url=live, headers=headers, timeout=30, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("part", range(PARTS))
def test_values_in_bodies_and_queries(
    http: httpx.Client, watch: Watch, make_task: Callable[..., Task], part: int
) -> None:
    """schemathesis makes requests for every operation of every door; a hostile value stands somewhere in each."""
    described = Client().get("/api/schema", headers={"accept": "application/vnd.oai.openapi+json"})
    schema = schemathesis.openapi.from_dict(hostile.document(json.loads(described.content)))
    known, chance = finish(make_task()).public_id, random.Random(SEED + part)
    values = itertools.cycle(chance.sample(VALUES, len(VALUES)))
    for result in itertools.islice(schema.get_all_operations(), part, None, PARTS):
        operation = result.ok()

        @_QUICK
        @seed(SEED)
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            path = case.path
            for name, value in (case.path_parameters or {}).items():
                path = path.replace(f"{{{name}}}", known if name == "public_id" else str(value)[:20].encode().hex())
            for value in itertools.islice(values, PLANTED):
                query = {**(case.query or {})}
                if case.method == "GET" and query:
                    query[chance.choice(list(query))] = chance.choice(TEXTS).encode(errors="replace").decode()
                body = planted(chance, case.body if isinstance(case.body, dict) else {}, value)
                content = None if case.method == "GET" else json_text(body).encode()
                headers = {"content-type": "application/json"}
                answer = http.request(case.method, path, params=query, content=content, headers=headers)
                watch.judge(answer, f"{case.method} {path} {query} {content!r}")

        ask()
    assert watch.answers >= 12 * CASES * PLANTED


@pytest.mark.parametrize(
    "path",
    ["/api/v1/image/generate", "/v1/images/generations", "/sdapi/v1/txt2img", "/api/v2/generate/async", "/prompt"],
)
def test_every_value_in_every_field(http: httpx.Client, watch: Watch, path: str) -> None:
    fields = {
        "/api/v1/image/generate": [
            "text",
            "callback_url",
            "params",
            "params.steps",
            "params.cfg_scale",
            "params.sampler",
        ],
        "/v1/images/generations": [
            *(
                "prompt",
                "quality",
                "output_format",
                "cfg_scale",
                "n",
                "response_format",
                "model",
                "partial_images",
                "size",
            ),
        ],
        "/sdapi/v1/txt2img": [
            *(
                "prompt",
                "steps",
                "seed",
                "cfg_scale",
                "sampler_name",
                "override_settings",
                "unknown",
                "alwayson_scripts",
            ),
            *("alwayson_scripts.controlnet", "styles", "subseed_strength"),
        ],
        "/api/v2/generate/async": [
            *("prompt", "models", "source_image", "params", "params.seed", "params.width", "params.loras"),
            *("params.post_processing", "params.sampler_name", "params.steps"),
        ],
        "/prompt": ["prompt", "client_id", "prompt.3", "prompt.9"],
    }[path]
    for number, value in enumerate(VALUES):
        for field in fields if LONG else (fields[number % len(fields)], fields[(number // 7) % len(fields)]):
            outer, _, inner = field.partition(".")
            body = {"text" if path.startswith("/api/v1") else "prompt": "x", outer: {inner: value} if inner else value}
            text = json_text(body)
            headers = {"content-type": "application/json", "idempotency-key": f"k{number}"}
            watch.judge(http.post(path, content=text.encode(), headers=headers), f"{path} {text}")


def test_headers(live: str, http: httpx.Client, watch: Watch) -> None:
    plain = {"authorization": http.headers["authorization"].encode(), "content-type": b"application/json", "host": b"x"}
    body = b'{"text": "x", "prompt": "x"}'
    writers = ["/api/v1/image/generate", "/sdapi/v1/txt2img", "/v1/images/edits", "/api/v1/lora/upload"]
    readers = ["/api/v1/models", "/healthz", "/", "/api/v1/image/tasks", "/files/x", "/accounts/login/", "/metrics"]
    for number, headers in enumerate(HEADERS):
        for path in writers if LONG else (writers[number % 4], writers[(number + 1) % 4]):
            watch.judge(raw_request(live, "POST", path, {**plain, **headers}, body), f"POST {path} {headers}")
        for path in readers if LONG else (readers[number % 7],):
            watch.judge(raw_request(live, "GET", path, {**plain, **headers}), f"GET {path} {headers}")


def addresses() -> list[str]:
    """Every address of the web process, with a place for each of its parameters."""

    def below(patterns: Any, start: str) -> Iterator[str]:
        for one in patterns:
            path = start + str(one.pattern)
            if isinstance(one, URLResolver):
                yield from below(one.url_patterns, path)
            elif isinstance(one, URLPattern):
                yield path

    found = (
        path.replace("^", "").replace("$", "").replace("\\Z", "") for path in below(get_resolver().url_patterns, "")
    )
    return sorted({"/" + path for path in found if "(?P" not in path} - {"/healthz/workers"} | {"/static/<path>"})


def filled(address: str, segment: str) -> str:
    while "<" in address:
        before, _, rest = address.partition("<")
        address = before + segment + rest.partition(">")[2]
    return address


def raw_request(
    where: str, method: str, path: str, headers: dict[str, bytes], body: bytes | None = None
) -> httpx.Response:
    """The answer to exactly these bytes; 400 when the server hangs up on them."""
    target = urlsplit(where)
    length = {"content-length": str(len(body)).encode()} if body is not None else {}
    lines = [name.encode() + b": " + value for name, value in {**headers, **length, "connection": b"close"}.items()]
    head = b"\r\n".join([f"{method} {path} HTTP/1.1".encode("latin-1"), *lines])
    received = b""
    with socket.create_connection((target.hostname or "", target.port or 0), timeout=20) as connection:
        connection.sendall(head + b"\r\n\r\n" + (body or b""))
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                received += chunk
    start, _, content = received.partition(b"\r\n\r\n")
    status, *found = start.split(b"\r\n")
    kept = [(b"content-type", line[14:]) for line in found if line.lower().startswith(b"content-type: ")]
    number = int(status.split(b" ")[1]) if status.startswith(b"HTTP/1.1 ") else 400
    chunked = b"transfer-encoding" in start.lower()
    return httpx.Response(number, headers=[] if chunked else kept, content=content)


def test_addresses_and_methods(live: str, http: httpx.Client, watch: Watch) -> None:
    plain = {"authorization": http.headers["authorization"].encode(), "host": b"x"}
    chance = random.Random(SEED)
    found = addresses()
    assert len(found) > 80
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
    for address in found:
        segments = SEGMENTS if "<" in address else SEGMENTS[:1]
        often = 1 if address.startswith("/admin/") else 3
        for segment in segments if LONG else chance.sample(segments, min(often, len(segments))):
            for method in methods if LONG else chance.sample(methods, min(often, 2)):
                path = filled(address, segment) + ("?token=x" if "/events" in address else "")
                answer = raw_request(live, method, path.encode().decode("latin-1"), plain, b"")
                watch.judge(answer, f"{method} {path}")


QUERY_NAMES = {
    "/api/v1/image/tasks": "limit cursor since until status kind style model resolution text batch_id team x",
    "/api/v1/usage": "since until group_by",
    "/api/v1/image/task/img0/image": "index variant",
    "/api/v1/image/task/img0/events": "token",
    "/files/images/x.webp": "expires signature",
    "/oauth/authorize/": "client_id redirect_uri state scope response_type code_challenge",
    "/accounts/login/": "next",
    "/sdapi/v1/progress": "skip_current_image",
}


def test_queries(live: str, http: httpx.Client, watch: Watch) -> None:
    plain = {"authorization": http.headers["authorization"].encode(), "host": b"x"}
    for path, known in QUERY_NAMES.items():
        names = known.split()
        for number, query in enumerate(QUERIES):
            for name in names if LONG else (names[number % len(names)], names[(number + 1) % len(names)]):
                address = f"{path}?{name}={query}&signature=x"
                watch.judge(raw_request(live, "GET", address, plain), address)
        address = f"{path}?\xff\xed\xa0\x80=\xff"
        watch.judge(raw_request(live, "GET", address, plain), address)


def form(*parts: tuple[bytes, bytes]) -> bytes:
    return b"".join(b"--b\r\n" + head + b"\r\n\r\n" + body + b"\r\n" for head, body in parts) + b"--b--\r\n"


def part(name: bytes, more: bytes = b"") -> bytes:
    return b'Content-Disposition: form-data; name="' + name + b'"' + more


FILE = b'; filename="a.png"\r\nContent-Type: image/png'
FORMS = [
    b"", b"--b", b"--b--", b"--b\r\n\r\n", b"\xff" * 100, form((b"", b"")), form((part(b""), b"x")),
    form((b"Content-Disposition: form-data", b"x")), form((b"X: y", b"x")), form((part(b"\xff\xed\xa0\x80"), b"\xff")),
    form((part(b"text"), b"\0")), form((part(b"text"), b"x"), (part(b"image"), b"x")),
    form((part(b"image", FILE), b"")),
    form((part(b"text", FILE), b"x"), (part(b"image", FILE), b"x"), (part(b"params", FILE), b"{}")),
    form((part(b"text"), b"x"), (part(b"image", FILE), b"x"), (part(b"params"), b'{"cfg_scale": NaN}')),
    form((part(b"text"), b"x"), (part(b"params"), b'{"steps": 1e999}')), form((part(b"params"), b"[" * 5000)),
    form((part(b"params"), b'{"\\ud800": "\\ud800"}')), form((part(b"params"), b"9" * 5000)),
    form((part(b"params"), b"7")),
    form((part(b"n"), b"\xff"), (part(b"prompt"), b"x"), (part(b"image", FILE), b"x")),
    form((part(b"n"), b"9" * 5000), (part(b"cfg_scale"), b"nan"), (part(b"prompt"), b"x"),
         (part(b"image[]", FILE), b"x")),
    form((part(b"name"), b"a"), (part(b"file", b'; filename="\xff\0/../x"'), b"x")),
    form((part(b"name"), b"a"), (part(b"file", FILE + b"\r\nContent-Transfer-Encoding: base64"), b"!!!")),
    form((part(b"text") + b"\r\nContent-Transfer-Encoding: base64", b"=")),
    form((part(b"text") + b"\r\nContent-Type: text/plain; charset=klingon", b"x")),
    form(*((part(b"a%d" % number), b"x") for number in range(1200))),
    form(*((part(b"image", FILE), b"x") for _ in range(150))), form((part(b"x" * 40_000), b"x")),
    form((part(b"mask"), b"x"), (part(b"image", FILE), b"x"), (part(b"prompt"), b"x")),
]  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["/api/v1/image/img2img", "/v1/images/edits", "/v1/images/variations", "/upload/image", "/api/v1/lora/upload"],
)
def test_forms(http: httpx.Client, watch: Watch, path: str) -> None:
    for body in FORMS:
        headers = {"content-type": "multipart/form-data; boundary=b"}
        watch.judge(http.post(path, content=body, headers=headers), f"{path} {body[:300]!r}")


@pytest.mark.parametrize("charset", ["idna", "punycode", "rot13", "undefined", "zlib", "utf-7", "utf-16", "x", "utf-8"])
def test_character_sets(http: httpx.Client, watch: Watch, charset: str) -> None:
    """At every address that reads a body, with and without a key."""
    form = b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nx\xff\r\n--b--'
    bodies = {"multipart/form-data; boundary=b": form, "application/x-www-form-urlencoded": b"text=%ff"}
    bodies["application/json"] = b'{"text": "x"}'
    for path in (
        "/api/v1/image/generate",
        "/v1/images/edits",
        "/sdapi/v1/txt2img",
        "/oauth/token/",
        "/accounts/login/",
    ):
        for content_type, body in bodies.items():
            headers = [(b"content-type", f"{content_type}; charset={charset}".encode())]
            watch.judge(http.post(path, content=body, headers=headers), f"{path} {headers}")


@pytest.mark.parametrize("path", ["/", "/ws", "/healthz", "/api/v1/image/task/img0/events", "/static/x", "/%00"])
def test_a_websocket_is_refused_at_every_address(live: str, watch: Watch, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    head += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nConnection: Upgrade\r\n"
    target = urlsplit(live)
    with socket.create_connection((target.hostname or "", target.port or 0), timeout=20) as connection:
        connection.sendall(head.encode() + b"Host: x\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 403")
        while connection.recv(65536):
            pass
    assert not watch.noted, watch.noted


def test_the_lists_of_the_admin(live: str, owner: User, watch: Watch) -> None:
    """As staff: filters, searches, orders and pages with values that are none."""
    User.objects.create_superuser("root", password="a long password")
    staff = Client(raise_request_exception=False)
    staff.login(username="root", password="a long password")
    lists = [address for address in addresses() if re.fullmatch(r"/admin/\w+/\w+/", address)]
    assert len(lists) > 15
    filters = "model priority kind style status__exact created user__id__exact id enabled__exact q o p e all _facets x"
    names = iter(itertools.cycle(filters.split()))
    hostile_values = ["x", "\0", "9" * 5000, "-1", "\ufffd", "1,2", "[]", "9999-12-31", ""]
    for address in lists:
        of_tasks = address.endswith("/task/")
        for name in itertools.islice(names, 60 if LONG else 16 if of_tasks else 2):
            for value in hostile_values if LONG else hostile_values[:2] if of_tasks else hostile_values[1:2]:
                answer = staff.get(address, {name: value})
                shown = httpx.Response(answer.status_code, content=answer.content[:100])
                watch.judge(shown, f"{address}?{name}={value!r}")

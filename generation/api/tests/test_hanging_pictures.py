"""Pictures by address over the real web process: servers that never answer hold their own customer's requests only."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.conf import LazySettings

from fixtures.hostile import HostileServer
from fixtures.rows import Receiver, picture_bytes
from generation.accounts.models import User
from generation.api.bounds import fetching
from generation.tasks.models import Task

Clients = Callable[[str], httpx.AsyncClient]
IMG2IMG, INPAINT = "/api/v1/image/img2img", "/api/v1/image/inpaint"
pytestmark = pytest.mark.usefixtures("able_model")


@pytest.fixture(autouse=True)
def local_pictures(settings: LazySettings) -> None:
    settings.PRIVATE_CALLBACKS = ["127.0.0.1/32"]
    settings.WEB_THREADS = 2
    settings.INPUT_TIMEOUT_S = 8
    settings.FETCHES_PER_USER = 10


def asked(http: httpx.AsyncClient, url: str) -> Any:
    return http.post(IMG2IMG, json={"text": "x", "dry_run": True, "image": url})


@pytest.fixture
def clients(live: str, make_user: Callable[..., User], key_of: Callable[..., str]) -> Clients:
    def make(name: str) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {key_of(make_user(name))}"}
        limits = httpx.Limits(max_connections=200)
        return httpx.AsyncClient(base_url=live, headers=headers, timeout=20, trust_env=False, limits=limits)

    return make


def test_a_hundred_hanging_addresses_hold_nobody_else(
    clients: Clients, hostile: HostileServer, settings: LazySettings
) -> None:
    attacker, victim = clients("attacker"), clients("victim")

    async def attack() -> tuple[list[httpx.Response], list[float]]:
        async with attacker, victim:
            hanging = asyncio.gather(*(asked(attacker, f"{hostile.url}/head") for _ in range(100)))
            while hostile.open["/head"] < 10:
                await asyncio.sleep(0.01)
            times = []
            for _ in range(10):
                began = time.monotonic()
                assert (await victim.get("/api/v1/models")).status_code == 200
                times.append(time.monotonic() - began)
            assert hostile.open["/head"] == 10, "the attack went on meanwhile"
            return await hanging, times

    answers, times = asyncio.run(attack())
    codes = [answer.status_code for answer in answers]
    assert (codes.count(400), codes.count(429)) == (10, 90)
    assert hostile.most_open["/head"] == 10
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["data"]["errors"][0]["code"] == "rate_limited"
    assert refused.headers["retry-after"] == "2"
    late = next(answer for answer in answers if answer.status_code == 400)
    assert late.json()["data"]["errors"][0] | {"message": ""} == {
        "field": "image",
        "code": "not_fetched",
        "message": "",
    }
    assert late.headers["x-request-id"]
    assert late.headers["ratelimit"]
    assert max(times) < settings.INPUT_TIMEOUT_S - 1, "nobody waited for a hanging server"
    assert not fetching._fetches._held
    assert not fetching._decodes._held


def test_clients_that_go_away_give_their_slots_back(
    clients: Clients, hostile: HostileServer, settings: LazySettings
) -> None:
    settings.INPUT_TIMEOUT_S = 60

    attacker = clients("attacker")

    async def go_away() -> None:
        async with attacker as http:
            calls = [asyncio.create_task(asked(http, f"{hostile.url}/silent")) for _ in range(10)]
            while hostile.open["/silent"] < 10:
                await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        async with asyncio.timeout(5):
            while fetching._fetches._held or hostile.open["/silent"]:
                await asyncio.sleep(0.01)

    asyncio.run(go_away())


@pytest.mark.parametrize("path", ["/v1/images/edits", "/sdapi/v1/img2img"])
def test_the_compatible_doors_hold_no_thread_either(clients: Clients, hostile: HostileServer, path: str) -> None:
    url = f"{hostile.url}/head"
    body = {"prompt": "x", "image": url, "init_images": [url], "mask": url, "inpainting_mask_invert": 1}
    if path.startswith("/v1"):
        del body["init_images"], body["mask"], body["inpainting_mask_invert"]

    attacker, victim = clients("attacker"), clients("victim")

    async def ask() -> list[int]:
        async with attacker as http, victim as other:
            hanging = asyncio.gather(*(http.post(path, json=body) for _ in range(4)))
            while not hostile.open["/head"]:
                await asyncio.sleep(0.01)
            assert (await other.get("/api/v1/models")).status_code == 200
            return [answer.status_code for answer in await hanging]

    assert asyncio.run(ask()) == [400] * 4


def test_uploads_and_addresses_go_together(
    live: str, owner: User, key_of: Callable[..., str], receiver: Receiver
) -> None:
    """The upload is still open when the address has been fetched; `Prefer: wait` then waits for the task."""
    receiver.answers = [(200, {}, picture_bytes((64, 64), colour="white"))]
    headers = {"authorization": f"Bearer {key_of(owner)}", "prefer": "wait=1"}
    response = httpx.post(
        live + INPAINT,
        files={"image": ("a.png", picture_bytes((256, 256)), "image/png")},
        data={"text": "x", "mask": f"{receiver.url}/mask.png"},
        headers=headers,
        timeout=20,
        trust_env=False,
    )
    assert response.status_code == 202, response.text
    assert response.headers["preference-applied"] == "wait=1"
    assert Task.objects.get().params["kind"] == "inpaint"
    assert [path for path, *_ in receiver.got] == ["/mask.png"]


def test_a_user_decodes_a_few_pictures_at_once(clients: Clients, receiver: Receiver, settings: LazySettings) -> None:
    settings.PICTURES_PER_USER = 1
    settings.INPUT_TIMEOUT_S = 20
    receiver.answers = [(200, {}, picture_bytes((1000, 1000)))]

    owner = clients("owner")

    async def ask() -> list[int]:
        async with owner as http:
            answers = await asyncio.gather(*(asked(http, receiver.url) for _ in range(6)))
            return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [200] * 6, "in turn, none refused"

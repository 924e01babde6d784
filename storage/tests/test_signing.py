import time

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from storage import keys, signing
from storage.drivers import FILES_PATH, signed_path
from storage.store import images


def test_only_the_same_path_and_expiry_verify():
    expires = int(time.time()) + 60
    signature = signing.sign("/files/a", expires)
    assert signing.verify("/files/a", expires, signature)
    assert signing.verify("/files/a", str(expires), signature)
    assert not signing.verify("/files/b", expires, signature)
    assert not signing.verify("/files/a", expires + 1, signature)
    assert not signing.verify("/files/a", expires, signature[:-1] + ("0" if signature[-1] != "0" else "1"))
    assert not signing.verify("/files/a", expires, "")
    assert not signing.verify("/files/a", expires, "ü")


def test_a_signature_expires():
    signature = signing.sign("/files/a", 1000)
    assert signing.verify("/files/a", 1000, signature, now=1000)
    assert not signing.verify("/files/a", 1000, signature, now=1000.5)


def test_odd_expiries_are_refused():
    for expires in ("", "-1", "1e9", "٣", " 5", "5\n", "9" * 5000):
        assert not signing.verify("/files/a", expires, "0" * 64)
    genuine = signing.sign("/files/a", 9_999_999_999)
    assert signing.verify("/files/a", "9999999999", genuine)
    for expires in ("09999999999", "0" * 5000 + "9999999999", "+9999999999", "9999999999.0"):
        assert not signing.verify("/files/a", expires, genuine)


def test_a_rotated_secret_still_verifies(settings):
    expires = int(time.time()) + 60
    old = signing.sign("/files/a", expires)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "n" * 50
    assert signing.verify("/files/a", expires, old)
    settings.SECRET_KEY_FALLBACKS = []
    assert not signing.verify("/files/a", expires, old)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "forge",
    [
        lambda url: url.replace("/0-", "/1-", 1),
        lambda url: url.replace("images/", "inputs/", 1),
        lambda url: url.replace("images/", "thumbs/", 1),
        lambda url: url.replace("images/", "raw/", 1),
        lambda url: url.replace("expires=", "expires=9"),
        lambda url: url.replace("expires=", "expires=%2B"),
        lambda url: url[:-1] + ("0" if url[-1] != "0" else "1"),
        lambda url: url[:-2],
        lambda url: url.split("&signature")[0],
        lambda url: url.split("?")[0],
        lambda url: url + "0",
        lambda url: url.replace("signature=", "signature=&signature=x"),
        lambda url: url.replace("/files/", "/files/../files/", 1),
        lambda url: url.replace("/files/", "/files/%2e%2e/", 1),
        lambda url: url.replace("/files/", "/files//", 1),
    ],
)
async def test_a_changed_url_is_refused(stores_on_disk, task_id, forge):
    """Another picture, another store's folder, a later end, no signature, a path upwards."""
    key = keys.image_key(task_id, 0, "ab" * 32, "image/webp")
    for name in (key, key.replace("/0-", "/1-"), keys.variant_key(key, "thumbs")):
        await sync_to_async(images().put)(name, b"picture")
    url = images().url(key, 60)
    assert (await AsyncClient().get(url)).status_code == 200
    assert (await AsyncClient().get(forge(url))).status_code in (403, 404)


@pytest.mark.asyncio
async def test_an_expired_url_is_refused(stores_on_disk, task_id):
    key = keys.image_key(task_id, 0, "ab" * 32, "image/webp")
    await sync_to_async(images().put)(key, b"picture")
    assert (await AsyncClient().get(images().url(key, -1))).status_code == 403


@pytest.mark.asyncio
async def test_a_genuine_signature_opens_no_file_outside_the_scheme(stores_on_disk):
    (stores_on_disk / "secret.txt").write_text("secret")
    for path in ("secret.txt", "../secret.txt", "raw/x.png", "images/../../secret.txt"):
        url = signed_path(FILES_PATH + path, 60)
        answer = await AsyncClient().get(url)
        assert answer.status_code == 404
        assert b"secret" not in answer.content

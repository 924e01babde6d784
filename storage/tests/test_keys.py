from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from storage import keys
from storage.errors import BadKey

TASK = UUID("019a9f1e-7c00-7abc-8def-0123456789ab")
SHA = "0123456789abcdef" * 4


def test_the_day_comes_from_the_task_id():
    day = datetime.fromtimestamp((TASK.int >> 80) / 1000, UTC)
    assert keys.image_key(TASK, 3, SHA, "image/webp") == f"images/{day:%Y/%m/%d}/{TASK}/3-0123456789abcdef.webp"


def test_variant_keys_are_derived_from_the_original():
    original = keys.image_key(TASK, 0, SHA, "image/avif")
    thumb = keys.variant_key(original, "thumbs")
    assert thumb == original.replace("images/", "thumbs/").replace(".avif", ".webp")
    assert keys.variant_key(keys.archive_key(original), "thumbs") == thumb
    with pytest.raises(BadKey):
        keys.variant_key(thumb, "medium")
    with pytest.raises(BadKey):
        keys.variant_key(original, "huge")


def test_parse_inverts_the_key():
    parts = keys.parse(keys.archive_key(keys.image_key(TASK, 12, SHA, "image/png")))
    assert (parts.kind, parts.task_id, parts.part, parts.extension, parts.archived) == (
        "images",
        TASK,
        "12",
        "png",
        True,
    )


def test_other_ids_have_no_day():
    with pytest.raises(BadKey):
        keys.image_key(uuid4(), 0, SHA, "image/png")


@pytest.mark.parametrize(
    "key",
    [
        "../etc/passwd",
        "/images/2026/01/01/x",
        f"images/2026/01/01/{TASK}/0-{SHA[:16]}.webp/../../x",
        f"images/2026/01/01/{TASK}/0-{SHA[:16]}.webp\n",
        f"archive/archive/images/2026/01/01/{TASK}/0-{SHA[:16]}.webp",
        f"raw/{TASK}/0-1.webp",
        "",
    ],
)
def test_foreign_keys_are_refused(key):
    with pytest.raises(BadKey):
        keys.check(key)


def test_every_built_key_is_in_the_scheme():
    original = keys.image_key(TASK, 0, SHA, "image/jpeg")
    made = [
        original,
        keys.raw_key(TASK, 0, 1),
        keys.input_key(TASK, "mask", SHA, "image/png"),
        keys.archive_key(original),
        keys.variant_key(original, "medium"),
    ]
    assert [keys.check(key) for key in made] == made

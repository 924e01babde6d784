"""LoRA uploads: only safetensors, only LoRAs, versions that never change, and nobody else's."""

import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client
from safetensors.numpy import save

from generation.accounts.models import User
from generation.catalogue.models import Lora
from generation.tasks.models import Task

ClientOf = Callable[..., Client]


LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
WIDTH = 192  # of that layer in the models that ship


def lora_tensors(rank: int = 4) -> dict[str, Any]:
    """A LoRA of one layer for the models that ship."""
    down, up = np.ones((rank, WIDTH), np.float16), np.ones((WIDTH, rank), np.float16)
    return {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}


def lora_bytes(rank: int = 4, **metadata: str) -> bytes:
    return save(lora_tensors(rank), metadata or None)


def upload(client: Client, data: bytes, name: str = "ink", filename: str = "x.safetensors") -> Any:
    return client.post("/api/v1/lora/upload", {"name": name, "file": SimpleUploadedFile(filename, data)})


def codes(response: Any) -> dict[str, str]:
    return {fault["field"]: fault["code"] for fault in response.json()["data"]["errors"]}


def names(client: Client) -> list[str]:
    """The LoRAs that are offered."""
    return [row["name"] for row in client.get("/api/v1/lora").json()["data"]["items"]]


@pytest.fixture(autouse=True)
def shipped(seeded: None) -> None:
    """The LoRA that comes with the product is there, too."""
    call_command("seed", verbosity=0)


@pytest.fixture
def client(client_of: ClientOf, owner: User) -> Client:
    return client_of(owner)


def test_uploads_become_versions_named_by_their_content(client: Client, settings: Any) -> None:
    first, second = lora_bytes(), lora_bytes(8, **{"modelspec.trigger_phrase": "ink style"})
    data = upload(client, first).json()["data"]
    assert (data["name"], data["version"], data["rank"], data["state"]) == ("ink", 1, 4, "active")
    newer = upload(client, second).json()["data"]
    assert (newer["version"], newer["rank"], newer["triggers"]) == (2, 8, ["ink style"])
    assert upload(client, first).json()["data"]["version"] == 1, "the same content is the same version"
    files = {path.name for path in Path(settings.LORA_ROOT).iterdir()}
    assert files == {hashlib.sha256(content).hexdigest() + ".safetensors" for content in (first, second)}


def pickled() -> bytes:
    return pickle.dumps({"lora_A": [1.0] * 100})


def huge_header() -> bytes:
    return struct.pack("<Q", 1 << 40) + b"{" + b" " * 100


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (pickled(), "not_safetensors"),
        (huge_header(), "not_safetensors"),
        (struct.pack("<Q", 20) + b"{" + b"x" * 30, "not_safetensors"),
        (b"PK\x03\x04" + b"\0" * 100, "not_safetensors"),
        (b"x", "not_safetensors"),
        (lora_bytes()[:60], "not_safetensors"),
        (save({"model.weight": np.ones((2, 2), np.float32)}), "not_a_lora"),
        (save({"a.lora_A.weight": np.ones((2, 2), np.float64)}), "wrong_dtype"),
        (lora_bytes(257), "wrong_rank"),
        (lora_bytes(0), "wrong_rank"),
    ],
)
def test_what_is_no_lora_is_refused_and_leaves_nothing(client: Client, settings: Any, data: bytes, code: str) -> None:
    response = upload(client, data)
    assert (response.status_code, codes(response)) == (400, {"file": code})
    assert not Lora.objects.exclude(owner=None).exists()
    assert list(Path(settings.LORA_ROOT).iterdir()) == []


DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    ("metadata", "triggers"),
    [
        ({"modelspec.trigger_phrase": "ink\0wash, \0"}, ["inkwash"]),
        ({"ss_tag_frequency": DEEP, "modelspec.trigger_phrase": "ink"}, ["ink"]),
        ({"ss_tag_frequency": '{"a": {"\\ud800ink": 1, "\\u0000": 2}}'}, ["ink"]),
        ({"ss_tag_frequency": "NaN"}, []),
        ({"ss_tag_frequency": '{"a": [1e400, {"b": 1}]}'}, ["inf", "{'b': 1}"]),
    ],
)
def test_what_a_files_notes_say_can_be_kept(client: Client, metadata: dict[str, str], triggers: list[str]) -> None:
    answer = upload(client, save(lora_tensors(), metadata))
    assert answer.status_code == 201, answer.content
    assert answer.json()["data"]["triggers"] == triggers


@pytest.mark.parametrize("name", ["../../etc", "Ink", "a b", "", "x" * 51, "ink@2", "<script>"])
def test_a_name_is_a_plain_word(client: Client, name: str) -> None:
    assert upload(client, lora_bytes(), name).status_code == 400
    assert not Lora.objects.exclude(owner=None).exists()


def test_a_file_over_the_limit_is_refused(client: Client, settings: Any) -> None:
    settings.MAX_LORA_BYTES = 100
    assert codes(upload(client, lora_bytes())) == {"file": "too_large"}


def test_the_free_plan_may_not_upload(client_of: ClientOf, make_user: Any) -> None:
    assert upload(client_of(make_user("guest", plan="free")), lora_bytes()).status_code == 403


def generate(client: Client, *loras: Any) -> Any:
    body = {"text": "x", "params": {"loras": list(loras)}}
    return client.post("/api/v1/image/generate", json.dumps(body), content_type="application/json")


def test_a_task_is_bound_to_the_hash_of_its_version(client: Client) -> None:
    upload(client, lora_bytes(4))
    upload(client, lora_bytes(8))
    assert generate(client, {"name": "ink", "weight": 0.5}).status_code == 202
    assert generate(client, "ink@1").status_code == 202
    newest, first = Task.objects.order_by("id")
    shas = dict(Lora.objects.filter(name="ink").values_list("version", "sha256"))
    assert (newest.params["loras"][0]["sha256"], newest.params["loras"][0]["weight"]) == (shas[2], 0.5)
    assert first.params["loras"][0]["name"] == "ink@1"


@pytest.mark.parametrize(
    ("loras", "expected"),
    [
        (["none"], {"params.loras[0].name": "unknown_lora"}),
        (["ink@9"], {"params.loras[0].name": "unknown_lora"}),
        ([{"name": "ink", "weight": 2.5}], {"params.loras[0].weight": "out_of_range"}),
        ([{"name": "ink", "wait": 1}], {"params.loras[0]": "wrong_type"}),
        ([7], {"params.loras[0]": "wrong_type"}),
        (["ink"] * 4, {"params.loras": "out_of_range"}),
    ],
)
def test_wrong_loras_of_a_request(client: Client, loras: list, expected: dict) -> None:
    upload(client, lora_bytes())
    response = generate(client, *loras)
    assert (response.status_code, codes(response)) == (400, expected)


def test_a_disabled_or_deleted_version_is_not_offered(client: Client) -> None:
    upload(client, lora_bytes())
    assert client.post("/api/v1/lora/ink/1/disable").json()["data"]["state"] == "disabled"
    assert generate(client, "ink").status_code == 400
    assert client.post("/api/v1/lora/ink/1/enable").json()["data"]["state"] == "active"
    assert generate(client, "ink").status_code == 202
    assert client.delete("/api/v1/lora/ink/1").status_code == 200
    assert names(client) == ["outline"], "what ships with the product is left"
    assert client.delete("/api/v1/lora/ink/1").status_code == 404


def test_loras_belong_to_a_team(client: Client, client_of: ClientOf, make_user: Any) -> None:
    upload(client, lora_bytes())
    mate, stranger = client_of(make_user("mate", team="shop")), client_of(make_user("stranger"))
    assert generate(mate, "ink").status_code == 202
    assert generate(stranger, "ink").status_code == 400
    assert names(stranger) == ["outline"]
    assert stranger.delete("/api/v1/lora/ink/1").status_code == 404
    assert upload(stranger, lora_bytes(2)).json()["data"]["version"] == 1, "names of teams do not meet"


def test_the_shipped_lora_is_everybodys(client_of: ClientOf, make_user: Any) -> None:
    guest = client_of(make_user("guest", plan="free"))
    assert names(guest) == ["outline"]
    assert generate(guest, {"name": "outline", "weight": 0.5}).status_code == 202


def test_seeding_again_adds_a_version_only_for_another_file(seeded: None, settings: Any, tmp_path: Path) -> None:
    call_command("seed", verbosity=0)
    first = Lora.objects.get(name="outline")
    file = tmp_path / first.source
    file.parent.mkdir()
    file.write_bytes(lora_bytes(6))
    settings.MODELS_DIR = str(tmp_path)
    call_command("seed", verbosity=0)
    newest, before = Lora.objects.filter(name="outline")
    assert (newest.version, newest.state, newest.rank) == (2, Lora.State.ACTIVE, 6)
    assert (before.version, before.state) == (1, Lora.State.DELETED)

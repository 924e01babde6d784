import io
import json
import socket
import time
from dataclasses import replace
from typing import Any

import c2pa
import pytest
from PIL import Image

from postprocessing import provenance
from postprocessing.errors import ProvenanceUnavailable
from postprocessing.formats import Encoded
from postprocessing.metadata import Notes
from postprocessing.pipeline import process, process_each
from postprocessing.recipe import FORMATS, Recipe, RecipeError
from postprocessing.tests.certificates import Chain, make_chain
from postprocessing.tests.pictures import scene


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Chain:
    return make_chain(tmp_path_factory.mktemp("c2pa"))


def signed(chain: Chain, form: str, **block: Any) -> Encoded:
    recipe = Recipe.from_json({"format": form, "provenance": True, **block})
    return process([scene(96, 96)], recipe, [Notes("a cat", seed=7, steps=20)], signer=chain.signer)[0]


def reader(file: Encoded, root: str = "") -> c2pa.Reader:
    trust = {"trust": {"user_anchors": root}} if root else {}
    context = c2pa.Context(c2pa.Settings.from_dict(trust))
    return c2pa.Reader(file.content_type, io.BytesIO(file.data), context=context)


@pytest.mark.parametrize("form", FORMATS)
def test_a_signed_file_has_its_source_type_and_is_trusted_through_the_root(chain, form):
    file = signed(chain, form)
    read = reader(file, chain.root)
    assert read.get_validation_state() == "Trusted"
    manifests = json.loads(read.json())
    manifest = manifests["manifests"][manifests["active_manifest"]]
    (action,) = next(each for each in manifest["assertions"] if each["label"] == "c2pa.actions.v2")["data"]["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert manifest["claim_generator_info"][0]["name"] == "ImageGenX"
    assert manifest["signature_info"]["common_name"] == "Signer"
    with Image.open(io.BytesIO(file.data)) as opened:
        assert opened.convert("RGB").size == (96, 96)
        assert b"a cat" in file.data or "a cat".encode("utf-16-be") in file.data, "the parameters are still there"


@pytest.mark.parametrize("form", FORMATS)
def test_a_changed_file_is_detected(chain, form):
    file = signed(chain, form)
    with Image.open(io.BytesIO(file.data)) as opened:
        pixels = process([scene(96, 96)], Recipe.from_json({"format": form, "metadata": "none"}))[0].data
        assert opened.size == (96, 96)
    at = file.data.index(pixels[len(pixels) // 2 :][:16])  # within the picture's own data
    changed = file.data[:at] + bytes([file.data[at] ^ 1]) + file.data[at + 1 :]
    assert reader(replace(file, data=changed), chain.root).get_validation_state() == "Invalid"


def test_without_the_root_the_signature_is_valid_and_untrusted(chain):
    read = reader(signed(chain, "webp"))
    assert read.get_validation_state() == "Valid"


def test_signing_costs_few_bytes(chain):
    plain = process([scene(96, 96)], Recipe.from_json({}), [Notes("a cat", seed=7)])[0]
    assert len(signed(chain, "webp").data) - len(plain.data) < 8000


@pytest.mark.parametrize("form", FORMATS)
def test_it_is_off_by_default_and_stripped_on_request(form):
    for block in ({"format": form}, {"format": form, "metadata": "none"}):
        file = process([scene(32, 32)], Recipe.from_json(block))[0]
        with pytest.raises(c2pa.C2paError, match="ManifestNotFound"):
            reader(file)
    with pytest.raises(RecipeError) as caught:
        Recipe.from_json({"provenance": True, "metadata": "none"})
    assert [(fault.field, fault.code) for fault in caught.value.faults] == [("postprocess.provenance", "conflict")]


def test_an_edited_picture_is_signed_as_a_composite(chain):
    recipe = Recipe.from_json({"provenance": True})
    (file,) = process([scene(32, 32)], recipe, [Notes("x", edited=True)], signer=chain.signer)
    assert "compositeWithTrainedAlgorithmicMedia" in reader(file, chain.root).json()


def test_the_thumbnail_is_not_signed(chain):
    (done,) = process_each([scene(32, 32)], Recipe.from_json({"provenance": True}), signer=chain.signer)
    with pytest.raises(c2pa.C2paError, match="ManifestNotFound"):
        reader(done.thumbnail)


def test_a_failed_signature_says_why(chain, tmp_path):
    recipe = Recipe.from_json({"provenance": True})
    with pytest.raises(ProvenanceUnavailable, match="C2PA_CERTIFICATE"):
        process([scene(8, 8)], recipe)
    with pytest.raises(ProvenanceUnavailable, match="missing"):
        process([scene(8, 8)], recipe, signer=replace(chain.signer, key=tmp_path / "missing.pem"))
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ProvenanceUnavailable, match="broken"):
        process([scene(8, 8)], recipe, signer=replace(chain.signer, certificates=tmp_path / "broken.pem"))


def test_an_authority_that_never_answers_is_given_up(chain, monkeypatch):
    monkeypatch.setattr(provenance, "TIMESTAMP_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = replace(chain.signer, timestamps=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        began = time.monotonic()
        with pytest.raises(ProvenanceUnavailable, match="in time"):
            process([scene(8, 8)], Recipe.from_json({"provenance": True}), signer=config)
        assert time.monotonic() - began < 4

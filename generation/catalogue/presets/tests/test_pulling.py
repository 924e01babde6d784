"""`models pull` against a hub of our own that serves the shipped model."""

import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings as real_settings
from django.core.management import CommandError, call_command

from generation.catalogue import snapshot
from generation.catalogue.models import ImageModel, ModelPreset
from generation.catalogue.presets import hub as hub_module
from generation.catalogue.presets import pulling, registry
from generation.catalogue.presets.hub import PullError
from generation.catalogue.presets.tests import hub_server

MINI = Path(real_settings.BASE_DIR) / "fixtures" / "models" / "mini"
UNET = "unet/diffusion_pytorch_model.safetensors"
pytestmark = pytest.mark.django_db


@pytest.fixture
def models_dir(settings, tmp_path):
    settings.MODELS_DIR = str(tmp_path / "models")
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def hub(models_dir, settings, monkeypatch, tmp_path):
    """With the environment of `make`: HF_HUB_OFFLINE is set there for the workers' sake."""
    shutil.copytree(MINI, tmp_path / "repository")
    with hub_server.running(tmp_path / "repository") as server:
        settings.HF_ENDPOINT = server.url
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        settings.HF_TOKEN = "hf_of_somebody"
        monkeypatch.setattr(hub_module, "LONGEST_WAIT_S", 0.05)
        yield server
    snapshot.reload()


@pytest.fixture
def preset(hub):
    row = {"family": "sd15", "kinds": ["text2img"], "default_width": 256, "default_height": 256, "aliases": ["tiny"]}
    return ModelPreset.objects.create(
        name="acme", title="Acme", repository="acme/mini", revision=hub_server.COMMIT, row=row, licence="Acme's"
    )


def pull(*arguments):
    out = StringIO()
    call_command("models", "pull", *arguments, stdout=out)
    return out.getvalue()


def test_a_pulled_model_is_there_whole_and_can_be_asked_for(preset, hub, models_dir):
    assert '"model": "acme"' in pull("acme")
    row = ImageModel.objects.get(name="acme")
    assert (row.source, row.family, row.kinds, row.revision) == ("acme", "sd15", ["text2img"], "1")
    for path in MINI.rglob("*"):
        if path.is_file():
            assert (models_dir / "acme" / path.relative_to(MINI)).read_bytes() == path.read_bytes()
    manifest = json.loads((models_dir / "acme" / "imagegenx.json").read_text())
    assert manifest["revision"] == hub_server.COMMIT
    assert not list((models_dir / "acme").rglob(".cache"))
    assert hub.tokens == {"Bearer hf_of_somebody"}
    assert "as they were pulled" in check("acme")


def check(name):
    out = StringIO()
    call_command("models", "check", name, stdout=out)
    return out.getvalue()


def test_a_connection_that_is_cut_is_resumed_where_it_was(preset, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 20)
    hub.faults[UNET] = ["cut", "cut"]
    pull("acme")
    assert any(line.startswith(f"{UNET} from ") and not line.endswith("from 0") for line in hub.ranges)


def test_a_pull_that_gives_up_leaves_no_model_and_the_next_one_goes_on(preset, hub, models_dir, monkeypatch):
    monkeypatch.setattr(hub_module, "TRIES", 1)
    hub.faults[UNET] = [500]
    with pytest.raises(CommandError, match="what has come is kept"):
        pull("acme")
    assert not ImageModel.objects.filter(name="acme").exists()
    assert not (models_dir / "acme").exists()
    before = hub.seen["vae/diffusion_pytorch_model.safetensors"]
    pull("acme")
    assert hub.seen["vae/diffusion_pytorch_model.safetensors"] == before
    assert ImageModel.objects.filter(name="acme").exists()


def test_content_with_another_hash_never_becomes_a_model(preset, hub, models_dir):
    hub.faults[UNET] = ["wrong"] * 10
    with pytest.raises(CommandError, match="another content than the hub announces"):
        pull("acme")
    assert not ImageModel.objects.filter(name="acme").exists()
    assert not (models_dir / "acme").exists()
    assert not (models_dir / ".pulling" / "acme" / UNET).exists()


def test_a_small_file_with_another_content_is_noticed_too(preset, hub):
    hub.faults["model_index.json"] = ["wrong"] * 10
    with pytest.raises(CommandError, match="another content"):
        pull("acme")
    assert not ImageModel.objects.filter(name="acme").exists()


def test_a_hub_that_has_another_file_than_the_preset_names_is_refused(preset, hub):
    preset.hashes = {UNET: "0" * 64}
    preset.save()
    with pytest.raises(CommandError, match="is not the file that the preset names"):
        pull("acme")
    assert not hub.seen


def test_a_list_that_the_hub_does_not_have_is_told_with_what_it_has(preset, hub):
    preset.files = ["unet/*", "unet/weights.fp16.safetensors", "vae/gone.json", "text_encoder_2/*"]
    preset.save()
    with pytest.raises(CommandError, match=r"has no unet/weights\.fp16\.safetensors, vae/gone\.json at ") as told:
        pull("acme")
    assert UNET in str(told.value)
    assert not hub.seen
    assert not ImageModel.objects.filter(name="acme").exists()


def test_a_pattern_may_match_nothing_and_only_what_matches_is_fetched(hub):
    known = hub_module.listing("acme/mini", hub_server.COMMIT, ["unet/*", "text_encoder_2/*"], {})
    assert UNET in {file.name for file in known.files}
    assert {file.name.split("/")[0] for file in known.files} == {"unet"}
    assert all(file.size and (file.sha256 or file.blob) for file in known.files)


@pytest.mark.parametrize("status", [401, 403])
def test_a_closed_door_says_how_to_get_in(preset, hub, status):
    hub.faults["api"] = [status]
    with pytest.raises(CommandError, match=r"Agree to the licence.*HF_TOKEN="):
        pull("acme")


def test_too_many_requests_are_waited_out(preset, hub):
    hub.faults["api"] = [429]
    hub.faults[UNET] = [429]
    pull("acme")
    assert ImageModel.objects.filter(name="acme").exists()


def test_a_full_disk_is_noticed_before_anything_is_fetched(preset, hub, monkeypatch):
    monkeypatch.setattr(pulling.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5_000_000})())
    with pytest.raises(CommandError, match=r"of disk are needed.*5\.0 MB are free"):
        pull("acme")
    assert not hub.seen


def test_a_licence_that_restricts_use_is_accepted_in_so_many_words(preset, hub):
    preset.must_accept, preset.licence_url = True, "https://example.com/licence"
    preset.save()
    with pytest.raises(CommandError, match=r"https://example\.com/licence"):
        pull("acme")
    assert not hub.seen
    assert '"model": "acme"' in pull("acme", "--accept-licence")


def test_pulled_again_it_is_the_next_revision_and_what_was_changed_is_mended(preset, models_dir):
    pull("acme")
    (models_dir / "acme" / UNET).write_bytes(b"broken")
    with pytest.raises(CommandError, match="cannot be used"):
        check("acme")
    pull("acme")
    assert "as they were pulled" in check("acme")
    assert ImageModel.objects.get(name="acme").revision == "2"


def test_two_pulls_of_one_model_do_not_mix(preset, models_dir):
    with pulling._alone("acme"), pytest.raises(CommandError, match="is being pulled already"):
        pull("acme")


def test_a_few_step_form_brings_the_weights_that_it_needs(preset, hub, models_dir):
    ModelPreset.objects.create(
        name="acme-fast", title="Fast", kind="adapter", base="acme", repository="acme/mini",
        files=["vae/config.json"], row={"family": "sd15", "kinds": ["text2img"], "options": {"speed": {}}},
    )  # fmt: skip
    pull("acme-fast")
    fast = ImageModel.objects.get(name="acme-fast")
    assert (fast.source, fast.options["adapter"]) == ("acme", "../acme-fast/vae/config.json")
    assert ImageModel.objects.filter(name="acme").exists()
    with pytest.raises(CommandError, match="acme is used by acme-fast"):
        call_command("models", "remove", "acme", stdout=StringIO())
    call_command("models", "remove", "acme-fast", stdout=StringIO())
    assert not (models_dir / "acme-fast").exists()
    assert (models_dir / "acme").exists()


def test_a_controlnet_becomes_a_type_of_the_models_that_it_fits(preset, hub, models_dir):
    pull("acme")
    ModelPreset.objects.create(
        name="lines", title="Lines", kind="controlnet", repository="acme/mini", files=["unet/*"],
        row={"family": "sd15", "control_type": "canny"},
    )  # fmt: skip
    assert "control_type canny of acme" in pull("lines")
    row = ImageModel.objects.get(name="acme")
    assert row.options["controlnets"] == {"canny": "../lines"}
    assert row.kinds == ["text2img", "controlnet"]


def test_a_removed_model_is_gone_with_its_files_unless_others_use_them(preset, hub, models_dir):
    pull("acme")
    ImageModel.objects.create(name="other", title="o", family="sd15", source="acme", kinds=["text2img"])
    with pytest.raises(CommandError, match="is used by other"):
        call_command("models", "remove", "acme", stdout=StringIO())
    ImageModel.objects.filter(name="other").delete()
    call_command("models", "remove", "acme", stdout=StringIO())
    assert not ImageModel.objects.filter(name="acme").exists()
    assert not (models_dir / "acme").exists()
    ImageModel.objects.create(name="acme", title="a", family="sd15", source="acme", kinds=["text2img"], enabled=False)
    pull("acme")
    assert ImageModel.objects.get(name="acme").enabled, "pulled again it can be asked for"
    with pytest.raises(CommandError, match="ships with the product"):
        call_command("models", "remove", "mini", stdout=StringIO())


def test_the_seed_presets_are_what_they_say(db):
    call_command("seed", stdout=StringIO())
    presets = {preset.name: preset for preset in ModelPreset.objects.all()}
    for preset in presets.values():
        preset.full_clean()
        assert preset.base == "" or preset.base in presets
        assert preset.row.get("fallback", preset.name) in presets
        assert preset.revision == "" or len(preset.revision) == 40
        if preset.kind in ("model", "adapter", "remote") and not preset.unusable:
            remote = preset.kind == "remote"
            values = {**preset.row, "source": preset.row["source"] if remote else "mini"}
            values.pop("fallback", None)
            ImageModel(name=preset.name, title=preset.title, **values).full_clean()
    assert presets["sdxl"].must_accept
    out = StringIO()
    call_command("models", "presets", stdout=out)
    assert "computed" in out.getvalue()
    assert "sdxl-turbo" in out.getvalue()


def test_a_known_model_that_is_not_here_is_named_with_its_command(db):
    call_command("seed", stdout=StringIO())
    assert registry.how_to_get("sdxl").endswith("`manage.py models pull sdxl --accept-licence`.")
    assert registry.how_to_get("Stable-Diffusion-XL").endswith("`manage.py models pull sdxl --accept-licence`.")
    assert registry.how_to_get("nothing-like-that") == ""


def test_a_preset_that_the_engine_cannot_run_says_so(db):
    call_command("seed", stdout=StringIO())
    with pytest.raises(CommandError, match="no pipeline that edits"):
        pull("qwen-image-edit", "--accept-licence")
    with pytest.raises(PullError, match="There is no preset"):
        pulling.ordered(["nothing-like-that"])


@pytest.mark.parametrize("name", ["../../outside", "/outside", "a/../../outside", ""])
def test_no_file_of_an_address_lies_outside_of_its_folder(models_dir, name):
    with pytest.raises(PullError, match="outside of itself"):
        hub_module.listing("https://evil.example/", "", [name], {name: "0" * 64})


@pytest.mark.parametrize("name", ["..", ".", "", "../keep", ".pulling"])
def test_only_a_models_folder_is_removed(models_dir, name):
    kept = models_dir.parent / "keep"
    kept.mkdir()
    with pytest.raises(CommandError, match="There is no model"):
        call_command("models", "remove", name, stdout=StringIO())
    assert kept.is_dir()
    assert models_dir.is_dir()

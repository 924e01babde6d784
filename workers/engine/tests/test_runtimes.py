"""ONNX Runtime under the engine: the same pictures, by call back to torch, graphs that lie beside the model."""

import builtins
import json

import numpy as np
import pytest
import torch

from workers.engine import ModelPool, ModelSpec, PoolConfig
from workers.engine.models.component_loader import load_components
from workers.engine.models.registry import make_model
from workers.engine.runtimes import graph_folder, hosting
from workers.engine.runtimes.export import ExportError, export_graph
from workers.engine.runtimes.graph_folder import GraphFolder
from workers.engine.runtimes.graph_forms import DecoderForm, UNetForm, form_of
from workers.engine.runtimes.hosting import parts_of
from workers.engine.runtimes.measured_choice import Comparison, KeptChoices
from workers.engine.spec import RuntimeConfig
from workers.engine.tests import tiny_models
from workers.engine.tests.conftest import MINI
from workers.engine.tests.driving import run_to_end, sample, worst
from workers.engine.tests.stock import Stock
from workers.engine.tests.test_equality_gate import CONTROLNETS, engine_for
from workers.engine.tests.test_loras import made, use

CPU = torch.device("cpu")
ONNX = {"runtime": "onnx"}
NO_DEFAULT = RuntimeConfig()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "sd"
    tiny_models.save_stable_diffusion(folder)
    return folder


@pytest.fixture(scope="module")
def engine(folder):
    return engine_for(ModelSpec("m", "1", "sd15", str(folder), options=CONTROLNETS | ONNX))


def hosted_of(engine):
    return engine._pool.get("m@1").hosted


def counted(engine):
    return {name: (one.calls, one.fallbacks) for name, one in hosted_of(engine).items()}


def lines_of(caplog):
    return [record.getMessage() for record in caplog.records if "runtimes" in record.name]


def loaded(folder, options=ONNX, family="sd15", runtime=NO_DEFAULT, precision="fp32"):
    model = make_model(ModelSpec("m", "1", family, str(folder), precision, options, runtime), CPU)
    model.load()
    return model


def test_every_part_runs_in_the_session_and_makes_the_stock_picture(engine, folder):
    lines = np.zeros((64, 64, 3), np.uint8)
    lines[20, :] = 255
    controlled = sample("controlnet", model="m@1", control_type="canny", control_image=lines, seed=5, steps=4)
    requests = [
        sample(model="m@1", seed=1),
        sample(model="m@1", seed=2, cfg_scale=1.0, sampler="ddim", steps=2),
        sample(model="m@1", seed=3, width=72, height=104),  # latents of 9 x 13
        sample(model="m@1", seed=4, text="a (red:1.4) circle on a white background " * 12),  # two chunks of text
        controlled,
    ]
    run = run_to_end(engine, requests)
    assert run.errors == {}
    stock = Stock(folder)
    plain = [request for request in requests if "(" not in request.parameters.text]  # stock reads no weights
    assert max(worst(run.images[one.sample_id], stock(one)) for one in plain) <= 1e-4
    assert {name: fallbacks for name, (_, fallbacks) in counted(engine).items()} == {
        "unet": 0, "text_encoder": 0, "vae_decoder": 0,
    }  # fmt: skip
    assert all(calls > 0 for calls, _ in counted(engine).values())


def test_a_batch_with_a_lora_runs_in_torch_and_the_next_one_in_the_session(engine, folder, tmp_path):
    style = use(made(folder, tmp_path, "attention", rank=4, alpha=4, seed=3), 1.0)
    before = counted(engine)["unet"]
    plain, styled = sample(model="m@1", seed=1), sample(model="m@1", seed=1, loras=(style,))
    run = run_to_end(engine, [plain, styled])
    assert run.errors == {}
    assert counted(engine)["unet"] == before  # torch had both: the call was not even offered
    assert worst(run.images[plain.sample_id], Stock(folder)(plain)) <= 1e-4
    assert worst(run.images[styled.sample_id], run.images[plain.sample_id]) > 1e-3
    run_to_end(engine, [sample(model="m@1", seed=1)])
    assert counted(engine)["unet"][0] > before[0]


def test_calls_that_the_graph_cannot_serve_run_in_torch(folder):
    model = loaded(folder)
    unet, hosted = model.heavy["unet"].module, model.hosted["unet"]
    call = {
        "sample": torch.randn(2, 4, 8, 8), "timestep": torch.tensor(5),
        "encoder_hidden_states": torch.randn(2, 77, 32), "return_dict": False,
    }  # fmt: skip
    expected = hosted._plain(**call)[0]
    assert torch.allclose(unet(**call)[0], expected, atol=1e-4)
    assert (hosted.calls, hosted.fallbacks) == (1, 0)
    masked = {**call, "encoder_attention_mask": torch.ones(2, 77)}
    assert torch.allclose(unet(**masked)[0], hosted._plain(**masked)[0])
    assert (hosted.calls, hosted.fallbacks) == (1, 1)


def test_a_session_that_fails_leaves_the_call_to_torch_with_one_line(folder, caplog, monkeypatch):
    model = loaded(folder)

    def run(feeds, outputs):
        raise RuntimeError("Failed to allocate memory")

    monkeypatch.setattr(model.hosted["unet"].session, "run", run)
    first, second = (model.infer(sample(model="m@1", steps=2), lambda *_: None).image for _ in range(2))
    assert np.array_equal(first, second)
    assert model.hosted["unet"].fallbacks == 4
    assert sum("Failed to allocate memory" in line for line in lines_of(caplog)) == 1


def test_graphs_lie_beside_the_model_and_serve_other_weights(folder, tmp_path, monkeypatch):
    first = loaded(folder)
    made = GraphFolder(folder).entries()
    assert {one["part"] for one in made.values()} == {"unet", "text_encoder", "vae_decoder"}
    assert all(one["difference"] < 1e-4 for one in made.values())

    def refuse(*_):
        raise AssertionError("a graph that is there was made again")

    monkeypatch.setattr(graph_folder, "export_graph", refuse)
    torch.manual_seed(99)
    for layer in first.heavy["unet"].module.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            torch.nn.init.normal_(layer.weight, std=0.05)
    other = tmp_path / "other"
    tiny_models.save_stable_diffusion(other, with_controlnet=False)
    first.heavy["unet"].module.save_pretrained(other / "unet")
    (other / "onnx").symlink_to(folder / "onnx")
    request = sample(model="m@1")
    assert worst(loaded(other).infer(request, lambda *_: None).image, Stock(other)(request)) <= 1e-4


def test_a_changed_configuration_or_a_damaged_file_makes_the_graph_anew(tmp_path, caplog):
    folder = tmp_path / "sd"
    tiny_models.save_stable_diffusion(folder, with_controlnet=False)
    loaded(folder)
    before = GraphFolder(folder).entries()
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"flip_sin_to_cos": False}))
    assert loaded(folder).hosted.keys() == {"unet", "text_encoder", "vae_decoder"}
    after = GraphFolder(folder).entries()
    assert {one["part"] for key, one in after.items() if key not in before} == {"unet"}
    damaged = folder / "onnx" / next(one["file"] for one in after.values() if one["part"] == "vae_decoder")
    damaged.write_bytes(b"not a graph")
    request = sample(model="m@1")
    picture = loaded(folder).infer(request, lambda *_: None).image
    assert worst(picture, Stock(folder)(request)) <= 1e-4
    assert len(damaged.read_bytes()) > 1000
    assert any("made anew" in line for line in lines_of(caplog))


def test_graphs_of_another_version_are_replaced_and_their_files_go(tmp_path, monkeypatch):
    folder = tmp_path / "sd"
    tiny_models.save_stable_diffusion(folder, with_controlnet=False)
    with monkeypatch.context() as older:
        older.setattr(graph_folder, "_VERSIONS", {"torch": "1.0"})
        loaded(folder)
    old = {path.name for path in (folder / "onnx").glob("*.onnx")}
    loaded(folder)
    new = {path.name for path in (folder / "onnx").glob("*.onnx")}
    assert len(new) == 3
    assert not old & new


@pytest.mark.parametrize(
    ("options", "precision", "said"),
    [
        (ONNX | {"speed": {"compile": {"backend": "eager"}}}, "fp32", "compile"),
        (ONNX, "fp64", "float64"),
        (ONNX, "int8", "8 bits"),
        ({"runtime": "warp"}, "fp32", "unknown"),
    ],
)
def test_what_cannot_be_hosted_stays_with_torch_with_a_line(folder, caplog, options, precision, said):
    model = loaded(folder, options, precision=precision)
    assert model.hosted == {}
    assert sum(said in line for line in lines_of(caplog)) == 1


def test_without_the_package_torch_runs_with_a_line(folder, caplog, monkeypatch):
    monkeypatch.setattr(hosting, "find_spec", lambda name: None)
    assert loaded(folder).hosted == {}
    assert any("not installed" in line for line in lines_of(caplog))


def test_a_part_without_a_graph_leaves_the_others(folder, caplog, monkeypatch, tmp_path):
    other = tmp_path / "sd"
    tiny_models.save_stable_diffusion(other, with_controlnet=False)

    def export(module, form):
        if isinstance(form, UNetForm):
            raise ExportError("its loop has no graph")
        return export_graph(module, form)

    monkeypatch.setattr(graph_folder, "export_graph", export)
    model = loaded(other)
    assert model.hosted.keys() == {"text_encoder", "vae_decoder"}
    assert any("its loop has no graph" in line for line in lines_of(caplog))
    request = sample(model="m@1")
    assert worst(model.infer(request, lambda *_: None).image, Stock(other)(request)) <= 1e-4


def test_an_export_that_computes_something_else_is_refused(monkeypatch):
    right = DecoderForm.forward
    factor = iter([1.0, *[1.01] * 9])  # of the export, then of what it is compared with

    def forward(self, module, feeds):
        return (next(factor) * right(self, module, feeds)[0],)

    monkeypatch.setattr(DecoderForm, "forward", forward)
    decoder = tiny_models.vae().decoder
    with pytest.raises(ExportError, match="differs from torch"):
        export_graph(decoder, form_of(decoder))


# ---- auto


def test_auto_measures_once_and_keeps_the_answer(folder, tmp_path, monkeypatch):
    loaded(folder)
    kept = tmp_path / "runtimes.json"
    quick, slow = {1: 0.010, 4: 0.030}, {1: 0.020, 4: 0.050}
    measured = []

    def compared(hosted, sizes, threads):
        measured.append(hosted.name)
        return Comparison(slow, quick) if hosted.name == "unet" else Comparison(quick, slow)

    monkeypatch.setattr(hosting, "compared", compared)
    runtime = RuntimeConfig("auto", 1, choices=kept)
    assert [loaded(folder, {}, runtime=runtime).hosted.keys() for _ in range(2)] == [{"unet"}, {"unet"}]
    assert measured == ["unet", "text_encoder", "vae_decoder"]
    entries = json.loads(kept.read_text())
    assert {key.split()[0]: entry["runtime"] for key, entry in entries.items()} == {
        "unet": "onnx", "text_encoder": "eager", "vae_decoder": "eager",
    }  # fmt: skip
    kept.write_text("{")
    assert loaded(folder, {}, runtime=runtime).hosted.keys() == {"unet"}  # measured anew
    assert len(measured) == 6


def test_a_decoder_beside_the_steps_has_one_thread(folder, monkeypatch):
    counts = {}
    real = hosting._hosted

    def hosted(part, where, threads, choices):
        counts[part.name] = threads
        return real(part, where, threads, choices)

    monkeypatch.setattr(hosting, "_hosted", hosted)
    loaded(folder, runtime=RuntimeConfig(threads=2, decoder_threads=1))
    assert counts == {"unet": 2, "text_encoder": 2, "vae_decoder": 1}


def test_auto_does_nothing_for_a_model_without_graphs(tmp_path):
    folder = tmp_path / "sd"
    tiny_models.save_stable_diffusion(folder, with_controlnet=False)
    assert loaded(folder, {}, runtime=RuntimeConfig("auto")).hosted == {}
    assert not (folder / "onnx").exists()


def test_a_real_measurement_gives_times_of_both(folder):
    model = loaded(folder)
    components = {**model.components, "unet": model.heavy["unet"].module}
    (part,) = (part for part in parts_of(components, "unet") if part.name == "unet")
    comparison = hosting.compared(model.hosted["unet"], part.sizes, 1)
    assert comparison.eager.keys() == comparison.onnx.keys() == {1, 4}
    assert all(seconds > 0 for seconds in (*comparison.eager.values(), *comparison.onnx.values()))


def test_a_gain_of_less_than_a_twentieth_is_none():
    assert Comparison({1: 1.0}, {1: 0.94}).winner == "onnx"
    assert Comparison({1: 1.0}, {1: 0.96}).winner == "eager"


def test_choices_that_cannot_be_written_are_still_known(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    choices = KeptChoices(tmp_path / "file" / "runtimes.json")
    choices.put("unet", {"runtime": "onnx"})
    assert choices.runtime("unet") == "onnx"
    assert "measured again" in caplog.text


# ---- beside the rest of the engine


@pytest.mark.parametrize("options", [{}, ONNX])
def test_outside_an_engine_loras_of_the_denoiser_count_as_well(folder, tmp_path, options):
    style = use(made(folder, tmp_path, "attention", rank=4, alpha=4, seed=3), 1.0)
    styled = sample(model="m@1", loras=(style,))
    plain = sample(model="m@1")
    model = loaded(folder, options)
    alone = [model.infer(request, lambda *_: None).image for request in (plain, styled, plain)]
    assert worst(alone[1], alone[0]) > 1e-3
    assert np.array_equal(alone[2], alone[0])
    inside = engine_for(ModelSpec("m", "1", "sd15", str(folder), options=options))
    run = run_to_end(inside, [plain, styled])
    assert worst(alone[1], run.images[styled.sample_id]) <= 1e-4


def test_the_shipped_graphs_are_those_of_the_installed_packages():
    """After a new pin of torch, diffusers or transformers: `manage.py convert mini`, and commit the folder `onnx`."""
    components = load_components(ModelSpec("mini", "1", "sd15", str(MINI), "fp32"), CPU)
    folder = GraphFolder(MINI)
    assert {part.name: folder.find(part.digest) is not None for part in parts_of(components, "unet")} == {
        "unet": True, "text_encoder": True, "vae_decoder": True,
    }  # fmt: skip
    assert sum(path.suffix == ".onnx" for path in folder.path.iterdir()) == 3


def test_memory_and_batch_limits_know_the_runtime(folder):
    pool = ModelPool(PoolConfig(device="cpu"))
    specs = [ModelSpec(name, "1", "sd15", str(folder), options=options) for name, options in (("e", {}), ("o", ONNX))]
    for spec in specs:
        pool.ensure(spec)
    assert pool.variant_of("o@1") == "fp32"  # not loaded yet
    pool.preload(["e@1", "o@1"])
    assert (pool.variant_of("e@1"), pool.variant_of("o@1")) == ("fp32", "fp32 onnx")
    sizes = pool.loaded()
    assert 1.5 * sizes["e@1"] < sizes["o@1"] < 2 * sizes["e@1"]
    pool.close()


def test_onnx_is_not_imported_to_load_a_model_that_has_graphs(folder, monkeypatch):
    """Reading a graph needs the runtime alone; the package onnx would take memory in each worker."""
    loaded(folder)
    real = builtins.__import__

    def watched(name, *args, **kwargs):
        assert name.split(".")[0] not in ("onnx", "onnxscript"), name
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", watched)
    assert loaded(folder).hosted


def test_two_text_encoders_and_sdxls_extra_inputs(tmp_path):
    tiny_models.save_sdxl(tmp_path)
    model = loaded(tmp_path, family="sdxl")
    assert model.hosted.keys() == {"unet", "text_encoder", "text_encoder_2", "vae_decoder"}
    request = sample(model="m@1")
    picture = model.infer(request, lambda *_: None).image
    assert worst(picture, Stock(tmp_path, name="StableDiffusionXL")(request)) <= 2e-4
    assert all(one.calls and not one.fallbacks for one in model.hosted.values())


@pytest.mark.parametrize(
    ("save", "family", "name", "hosted"),
    [
        (
            tiny_models.save_sd3,
            "sd3",
            "StableDiffusion3",
            {"transformer", "text_encoder", "text_encoder_2", "vae_decoder"},
        ),
        (tiny_models.save_flux, "flux", "Flux", {"text_encoder", "vae_decoder"}),
    ],
)
def test_of_other_families_what_has_a_form_is_hosted_and_the_rest_stays_with_torch(
    tmp_path, save, family, name, hosted
):
    save(tmp_path)
    model = loaded(tmp_path, family=family)
    assert model.hosted.keys() == hosted | {"text_encoder", "vae_decoder"}
    request = sample(model="m@1", sampler="auto")
    picture = model.infer(request, lambda *_: None).image
    assert worst(picture, Stock(tmp_path, name=name)(request)) <= 1e-4
    assert {part: one.fallbacks for part, one in model.hosted.items() if one.fallbacks} == {}

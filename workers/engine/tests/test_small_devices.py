"""A device that holds less than the model: what moves there is small before it moves, and a failed try leaves nothing.

The device is torch's `meta`: modules move to it as to any other, and nothing computes there. What moves to it in one
loading is counted, and more than its limit is out of memory.
"""

import gc

import pytest
import torch

from workers.engine import ModelPool, ModelSpec, ModelUnavailable, PoolConfig
from workers.engine.models.diffusers_model import DiffusersModel
from workers.engine.models.offload import OneOnDevice
from workers.engine.tests import tiny_models
from workers.engine.tests.driving import run_to_end, sample, worst
from workers.engine.tests.stock import Stock
from workers.engine.tests.test_equality_gate import engine_for

META = torch.device("meta")
WIDE = {"block_out_channels": (64, 128), "norm_num_groups": 8}  # most of the weights are in layers that 8 bits take


@pytest.fixture(scope="module", autouse=True)
def frozen():
    """What tests before these have left is not looked through each time that tensors are counted."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide") / "sd"
    tiny_models.save_stable_diffusion(folder, **WIDE)
    return folder


def in_memory(device):
    """Bytes of all tensors there that anything still holds."""
    gc.collect()
    found = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor) and one.device == device]
    return sum(one.nbytes for one in found)


class Device:
    """Counts what moves to `meta` in each loading; `at_start`: what was there when it began."""

    def __init__(self, monkeypatch):
        self.limit, self.moved, self.at_start = 1 << 40, [], []
        move, load = torch.nn.Module.to, DiffusersModel.load

        def to(module, *args, **kwargs):
            if args and args[0] == META:
                parts = [*module.parameters(), *module.buffers()]
                self.moved[-1] += sum(part.nbytes for part in parts if part.device != META)
                if self.moved[-1] > self.limit:
                    raise torch.OutOfMemoryError("the device is full")
            return move(module, *args, **kwargs)

        def counted(model):
            self.at_start.append(in_memory(META))
            self.moved.append(0)
            load(model)

        monkeypatch.setattr(torch.nn.Module, "to", to)
        monkeypatch.setattr(DiffusersModel, "load", counted)


@pytest.fixture
def device(monkeypatch):
    return Device(monkeypatch)


def pool_of(folder, precision, **speed):
    options = {"speed": speed, "controlnets": {"canny": "controlnet-canny"}, "int8": {"prompts": []}}
    pool = ModelPool(PoolConfig(device="meta", memory_bytes=1 << 40), memory_load=lambda: 0.0)
    pool.ensure(ModelSpec("m", "1", "sd15", str(folder), precision, options=options))
    return pool


def needed(device, folder, precision, **speed):
    """Bytes that a loading moves to the device."""
    pool = pool_of(folder, precision, **speed)
    pool.get("m@1")
    assert pool.precision_of("m@1") == precision
    pool.close()
    return device.moved[-1]


@pytest.fixture(scope="module")
def sizes(folder):
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        device = Device(patch)
        return {precision: needed(device, folder, precision) for precision in ("fp32", "bf16", "fp16", "int8")}


def test_each_lower_precision_moves_less_to_the_device(sizes):
    assert sizes["bf16"] == sizes["fp16"] < 0.51 * sizes["fp32"]
    assert sizes["int8"] < 0.9 * sizes["bf16"]  # the VAE and the ControlNet stay in 16 bits


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8"])
def test_an_offloaded_model_moves_nothing_while_it_loads(device, folder, precision):
    assert needed(device, folder, precision, offload=True) == 0


@pytest.mark.parametrize(
    ("asked", "fits", "loaded"),
    [("fp32", "fp32", "fp32"), ("fp32", "bf16", "bf16"), ("fp32", "int8", "int8"), ("bf16", "int8", "int8"),
     ("fp16", "int8", "int8")],
)  # fmt: skip
def test_a_model_is_loaded_in_the_precision_that_the_device_holds(device, folder, sizes, asked, fits, loaded):
    device.limit, before = sizes[fits], len(device.moved)
    pool = pool_of(folder, asked)
    pool.get("m@1")
    assert pool.precision_of("m@1") == loaded
    assert device.moved[-1] <= device.limit
    tries = {"fp32": {"fp32": 1, "bf16": 2, "int8": 3}, "bf16": {"int8": 2}, "fp16": {"int8": 2}}
    assert len(device.moved) - before == tries[asked][loaded]
    assert device.at_start[before:] == [0] * tries[asked][loaded], "a failed loading leaves nothing on the device"
    pool.close()


def test_what_fits_in_no_precision_says_so_and_leaves_nothing(device, folder, sizes):
    device.limit = sizes["int8"] // 2
    pool = pool_of(folder, "fp32")
    with pytest.raises(ModelUnavailable, match="does not fit on meta"):
        pool.get("m@1")
    assert pool.loaded() == {}
    assert in_memory(META) == 0


def test_models_that_nobody_uses_leave_before_a_load_goes_down(device, folder, sizes):
    pool = pool_of(folder, "fp32")
    pool.get("m@1")
    pool.ensure(ModelSpec("other", "1", "sd15", str(folder), "fp32"))
    device.limit = sizes["fp32"]
    tries, load = [], DiffusersModel.load

    def once_full(model):
        tries.append(model.spec.key)
        if len(tries) == 1:
            raise torch.OutOfMemoryError("the device is full")
        load(model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiffusersModel, "load", once_full)
        pool.get("other@1")
    assert tries == ["other@1", "other@1"]
    assert set(pool.loaded()) == {"other@1"}
    assert pool.precision_of("other@1") == "fp32"
    pool.close()


def test_of_an_offloaded_model_one_module_at_a_time_is_there():
    one, two = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    moves = []
    for name, module in (("one", one), ("two", two)):
        module.to = lambda where, name=name: moves.append((name, str(where)))
    place = OneOnDevice([one, two])
    one(torch.ones(1, 4))
    assert moves == []
    place.use(torch.device("cpu", 0))
    for module in (one, one, two, one):
        module(torch.ones(1, 4))
    assert moves == [
        ("one", "cpu:0"), ("one", "cpu"), ("two", "cpu:0"), ("two", "cpu"), ("one", "cpu:0"),
    ]  # fmt: skip


def test_an_offloaded_model_makes_the_same_pictures(folder, monkeypatch):
    """The hooks alone, on the CPU: every kind of task goes through them."""
    monkeypatch.setattr(DiffusersModel, "_offloads", property(lambda self: True))
    engine = engine_for(ModelSpec("m", "1", "sd15", str(folder)))
    requests = [sample(model="m@1", seed=seed, text="a (red:1.2) cat" if seed else "a cat") for seed in range(2)]
    run = run_to_end(engine, requests)
    assert run.errors == {}
    assert worst(run.images[requests[0].sample_id], Stock(folder)(requests[0])) <= 1e-4

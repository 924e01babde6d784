"""Conversion of checkpoints. The networks are small ones of the two published shapes, with random weights."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from django.core.management import CommandError, call_command
from safetensors.torch import save_file

from postprocessing.convert import convert, read_state
from postprocessing.networks import RRDBNet, SRVGGNetCompact, build, modern_names
from postprocessing.superres import SuperResConfig, upscale
from postprocessing.tests.pictures import psnr, scene


def small(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if kind == "srvgg4":
        network: torch.nn.Module = SRVGGNetCompact(8, 2, 4)
    else:
        network = RRDBNet(8, 1, 4, upsamplings=2, unshuffle=2 if kind == "rrdb2" else 1)
    return network.eval()


def old_names(state: dict) -> dict:
    """Today's names as the first release wrote them (one block, 4x)."""
    top = {"conv_first": "model.0", "conv_body": "model.1.sub.1", "conv_up1": "model.3", "conv_up2": "model.6",
           "conv_hr": "model.8", "conv_last": "model.10"}  # fmt: skip
    renamed = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        if stem.startswith("body"):
            _, block, dense, conv = stem.split(".")
            stem = f"model.1.sub.{block}.RDB{dense[-1]}.{conv}.0"
        renamed[f"{top.get(stem, stem)}.{kind}"] = tensor
    return renamed


@pytest.mark.parametrize(("kind", "scale"), [("rrdb4", 4), ("rrdb2", 2), ("srvgg4", 4)])
def test_each_network_converts_and_runs(tmp_path, kind, scale, capsys):
    checkpoint = tmp_path / "net.pth"
    torch.save({"params_ema": small(kind).state_dict()}, checkpoint)
    call_command("convert_superres", checkpoint, out=tmp_path / "out")
    assert "differs by at most" in capsys.readouterr().out
    picture = scene(40, 52)
    enlarged = upscale([picture], scale, SuperResConfig(tmp_path / "out", tile=32, overlap=16))[0]
    assert enlarged.shape == (40 * scale, 52 * scale, 3)
    unit = torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.inference_mode():
        plain = small(kind)(unit)[0].permute(1, 2, 0).clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    inside = slice(16 * scale, -16 * scale)
    assert psnr(enlarged[inside, inside], plain[inside, inside]) > 38


def test_safetensors_and_old_names_give_the_same_network(tmp_path):
    network = small("rrdb4")
    save_file(network.state_dict(), tmp_path / "new.safetensors")
    torch.save(old_names(network.state_dict()), tmp_path / "old.pth")
    unit = torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        for name in ("new.safetensors", "old.pth"):
            assert torch.equal(build(read_state(tmp_path / name))(unit), network(unit))
    assert modern_names(old_names(network.state_dict())).keys() == network.state_dict().keys()


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"params": Evil()}))
    with pytest.raises(CommandError, match="weights only"):
        call_command("convert_superres", tmp_path / "evil.pth", out=tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_unknown_tensors_are_refused_with_their_name(tmp_path):
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CommandError, match=r"encoder\.weight"):
        call_command("convert_superres", tmp_path / "other.pth", out=tmp_path)
    with pytest.raises(CommandError, match="no file"):
        call_command("convert_superres", tmp_path / "missing.pth", out=tmp_path)


def test_a_conversion_that_differs_leaves_the_old_network(tmp_path):
    torch.save(small("srvgg4").state_dict(), tmp_path / "net.pth")
    (tmp_path / "x4.onnx").write_bytes(b"old")
    with pytest.raises(ValueError, match="differs"):
        convert(tmp_path / "net.pth", tmp_path, tolerance=-1.0)
    assert (tmp_path / "x4.onnx").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pth", "x4.onnx"]

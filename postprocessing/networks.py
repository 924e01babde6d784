"""The two architectures of ESRGAN checkpoints in torch, only used by the conversion command.

RRDBNet (Wang et al. 2018, "ESRGAN"; Real-ESRGAN x4plus, x2plus) and SRVGGNetCompact (Wang et al. 2021,
"Real-ESRGAN"; animevideo, general). Parameter names are those of the published checkpoints; `build` derives the
architecture from the names and shapes of the tensors.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualDenseBlock(nn.Module):
    """Five 3x3 convolutions, each over the input and all earlier outputs; the last is added to the input, times 0.2."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        for number in range(1, 5):
            setattr(self, f"conv{number}", nn.Conv2d(features + (number - 1) * growth, growth, 3, 1, 1))
        self.conv5 = nn.Conv2d(features + 4 * growth, features, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for number in range(1, 5):
            convolve = getattr(self, f"conv{number}")
            features.append(F.leaky_relu(convolve(torch.cat(features, 1)), 0.2))
        return self.conv5(torch.cat(features, 1)) * 0.2 + x


class RRDB(nn.Module):
    """Three dense blocks with a residual connection around them."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = ResidualDenseBlock(features, growth)
        self.rdb2 = ResidualDenseBlock(features, growth)
        self.rdb3 = ResidualDenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


class RRDBNet(nn.Module):
    """`upsamplings`: doublings after the body; `unshuffle`: factor by which pixels are folded into channels before it
    (x2plus: 2 and 2).
    """

    def __init__(self, features: int, blocks: int, growth: int, upsamplings: int, unshuffle: int) -> None:
        super().__init__()
        self.upsamplings, self.unshuffle = upsamplings, unshuffle
        self.scale = 2**upsamplings // unshuffle
        self.conv_first = nn.Conv2d(3 * unshuffle**2, features, 3, 1, 1)
        self.body = nn.Sequential(*(RRDB(features, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(features, features, 3, 1, 1)
        for number in range(1, upsamplings + 1):
            setattr(self, f"conv_up{number}", nn.Conv2d(features, features, 3, 1, 1))
        self.conv_hr = nn.Conv2d(features, features, 3, 1, 1)
        self.conv_last = nn.Conv2d(features, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.unshuffle)
        first = self.conv_first(x)
        x = first + self.conv_body(self.body(first))
        for number in range(1, self.upsamplings + 1):
            convolve = getattr(self, f"conv_up{number}")
            x = F.leaky_relu(convolve(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))


class SRVGGNetCompact(nn.Module):
    """A chain of convolutions with PReLU; its pixel-shuffled output is added to the nearest-neighbour enlargement."""

    def __init__(self, features: int, convolutions: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [nn.Conv2d(3, features, 3, 1, 1), nn.PReLU(features)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(features, features, 3, 1, 1), nn.PReLU(features)]
        layers.append(nn.Conv2d(features, 3 * scale * scale, 3, 1, 1))
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        detail = F.pixel_shuffle(self.body(x), self.scale)
        return detail + F.interpolate(x, scale_factor=self.scale, mode="nearest")


def build(state: Mapping[str, Tensor]) -> RRDBNet | SRVGGNetCompact:
    """The network of a checkpoint, with its weights. Raises ValueError when the tensors fit neither architecture."""
    state = modern_names(state)
    if "conv_first.weight" in state:
        network: RRDBNet | SRVGGNetCompact = _rrdb(state)
    elif "body.0.weight" in state and "body.1.weight" in state and state["body.1.weight"].ndim == 1:
        network = _srvgg(state)
    else:
        raise ValueError(
            f"The tensors are not those of a known ESRGAN network; the first is {next(iter(state), None)!r}."
        )
    try:
        network.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise ValueError(f"The tensors do not fit the network: {error}") from error
    return network.eval().float()


def modern_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the first ESRGAN release ("model.1.sub.0.RDB1.conv1.0.weight") as in later ones."""
    if "model.0.weight" not in state:
        return dict(state)
    blocks = max(int(found[1]) for name in state if (found := re.match(r"model\.1\.sub\.(\d+)\.", name)))
    tail = sorted({int(found[1]) for name in state if (found := re.fullmatch(r"model\.(\d+)\.weight", name))})[1:]
    parts = [*(f"conv_up{number}" for number in range(1, len(tail) - 1)), "conv_hr", "conv_last"]
    renamed = {f"model.{number}": part for number, part in zip(tail, parts, strict=True)}
    renamed |= {"model.0": "conv_first", f"model.1.sub.{blocks}": "conv_body"}
    modern = {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        dense = re.fullmatch(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0", stem)
        new = f"body.{dense[1]}.rdb{dense[2]}.conv{dense[3]}" if dense else renamed.get(stem, stem)
        modern[f"{new}.{kind}"] = tensor
    return modern


def _rrdb(state: Mapping[str, Tensor]) -> RRDBNet:
    features, channels = state["conv_first.weight"].shape[:2]
    unshuffle = {3: 1, 12: 2, 48: 4}.get(channels)
    if unshuffle is None:
        raise ValueError(f"The first convolution takes {channels} channels; RGB networks take 3, 12 or 48.")
    blocks = 1 + max(int(found[1]) for name in state if (found := re.match(r"body\.(\d+)\.", name)))
    upsamplings = sum(bool(re.fullmatch(r"conv_up\d\.weight", name)) for name in state)
    return RRDBNet(features, blocks, state["body.0.rdb1.conv1.weight"].shape[0], upsamplings, unshuffle)


def _srvgg(state: Mapping[str, Tensor]) -> SRVGGNetCompact:
    convolutions = sorted(int(name.split(".")[1]) for name, tensor in state.items() if tensor.ndim == 4)
    last = state[f"body.{convolutions[-1]}.weight"].shape[0]
    scale = round((last / 3) ** 0.5)
    return SRVGGNetCompact(state["body.0.weight"].shape[0], len(convolutions) - 2, scale)

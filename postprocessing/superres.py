"""Super-resolution by ONNX Runtime: 2x and 4x, in overlapping tiles, with bounded memory.

A network is a file x2.onnx or x4.onnx with one input and one output, float32, batch x 3 x height x width, RGB, 0 to
1, any batch, height and width. `manage.py convert_superres` makes such files from ESRGAN and Real-ESRGAN checkpoints.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from postprocessing.arrays import LARGEST_SIDE, Picture
from postprocessing.errors import EnlargementNotFinite, SuperResolutionMissing
from postprocessing.tiles import Span, spans

Progress = Callable[[float], None]
_MARGIN = 8  # pixels mirrored around a picture: networks draw artefacts at its border
_MULTIPLE = 4  # networks that unshuffle pixels need sides that are multiples of 2 or 4
_PROBE = 8  # pixels


@dataclass(frozen=True)
class SuperResConfig:
    """`tile`, `overlap`: input pixels. `batch`: tiles per call. `providers`: in order of preference, missing ones are
    skipped. `threads`: of one call on the CPU; 0: ONNX Runtime's default.
    """

    directory: Path = Path("fixtures/models/superres")
    tile: int = 288  # pictures of 256 and its multiples, with their margins, then need few tiles
    overlap: int = 32
    batch: int = 4
    providers: tuple[str, ...] = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    threads: int = 0
    preferred: Path | None = None  # a folder whose networks come first, of the scales that it has

    def __post_init__(self) -> None:
        if self.tile % _MULTIPLE or self.tile < 4 * _MULTIPLE:
            raise ValueError(f"tile is {self.tile}; it must be a multiple of {_MULTIPLE}, at least {4 * _MULTIPLE}.")


def upscale(
    pictures: Sequence[Picture], scale: int, config: SuperResConfig, progress: Progress | None = None
) -> list[Picture]:
    """Enlarge each picture by `scale`. Pictures of one size share calls of the network if their tiles fit into one.

    `progress`: called with the completed part, 0 to 1, after each call of the network. Memory besides input and output:
    one row of tiles in float32 for each picture of a call. Raises SuperResolutionMissing; ValueError when a result
    would be too large.
    """
    for picture in pictures:
        if max(picture.shape[:2]) * scale > LARGEST_SIDE:
            raise ValueError(
                f"{scale}x of {picture.shape[1]} x {picture.shape[0]} is over {LARGEST_SIDE} pixels a side."
            )
    if not pictures:
        return []
    network = load_network(config, scale)
    groups = _groups(pictures, config)
    done: list[Picture | None] = [None] * len(pictures)
    counter = _CallCounter(sum(_calls(pictures[members[0]], len(members), config) for members in groups), progress)
    for members in groups:
        results = _upscale_group([with_margin(pictures[index]) for index in members], network, config, counter)
        for index, result in zip(members, results, strict=True):
            done[index] = np.ascontiguousarray(without_margin(result, pictures[index].shape, scale))
    return [picture for picture in done if picture is not None]


def _groups(pictures: Sequence[Picture], config: SuperResConfig) -> list[list[int]]:
    """Indices of pictures of one size, as many as share the calls of the network."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for index, picture in enumerate(pictures):
        sizes.setdefault(picture.shape, []).append(index)
    return [
        members[start : start + pictures_per_call(shape, config)]
        for shape, members in sizes.items()
        for start in range(0, len(members), pictures_per_call(shape, config))
    ]


def pictures_per_call(shape: tuple[int, ...], config: SuperResConfig) -> int:
    """How many pictures of `shape` (height, width, ...) fit with one row of their tiles into a call of the network."""
    width = shape[1] + 2 * _MARGIN
    columns = len(_spans(width + -width % _MULTIPLE, config))
    return max(1, config.batch // columns)


def _spans(side: int, config: SuperResConfig) -> list[Span]:
    return spans(side, config.tile, config.overlap, _MULTIPLE)


def with_margin(picture: Picture) -> Picture:
    """Add mirrored pixels around the picture, so that each side is a multiple of `_MULTIPLE`."""
    height, width = picture.shape[:2]
    below, right = (_MARGIN + -(side + 2 * _MARGIN) % _MULTIPLE for side in (height, width))
    return np.pad(picture, [(_MARGIN, below), (_MARGIN, right), (0, 0)], mode="symmetric")


def without_margin(enlarged: np.ndarray, shape: tuple[int, ...], scale: int) -> np.ndarray:
    """Cut off what `with_margin` added, after the enlargement of a picture of `shape` by `scale`."""
    start = _MARGIN * scale
    return enlarged[start : start + shape[0] * scale, start : start + shape[1] * scale]


@dataclass(frozen=True)
class Network:
    """A loaded network. `run` takes and returns finite float32 N x 3 x H x W; H and W are multiples of `_MULTIPLE`."""

    session: Any
    scale: int

    def run(self, batch: np.ndarray) -> np.ndarray:
        made = self.session.run(None, {self.session.get_inputs()[0].name: batch})[0]
        if not np.isfinite(made).all():
            raise EnlargementNotFinite("The network for enlarging made values that are not numbers.")
        return made


def load_network(config: SuperResConfig, scale: int) -> Network:
    """The network for `scale`, kept loaded until its file changes. Raises SuperResolutionMissing."""
    path = config.directory / f"x{scale}.onnx"
    if config.preferred is not None and (config.preferred / path.name).is_file():
        path = config.preferred / path.name
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise SuperResolutionMissing(
            f"There is no network for {scale}x at {path}. "
            "`manage.py convert_superres` makes one from an ESRGAN checkpoint."
        ) from error
    return _load(str(path), changed, scale, config.providers, config.threads)


@lru_cache(maxsize=4)
def _load(path: str, changed: int, scale: int, providers: tuple[str, ...], threads: int) -> Network:
    import onnxruntime  # 68 MB: loaded only to enlarge

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    present = [name for name in providers if name in onnxruntime.get_available_providers()]
    try:
        network = Network(onnxruntime.InferenceSession(path, options, providers=present), scale)
        probe = network.run(np.zeros((1, 3, _PROBE, _PROBE), np.float32))
    except Exception as error:  # ONNX Runtime raises classes of its own, made in C++
        raise SuperResolutionMissing(f"{path} cannot be used: {error}") from error
    if probe.shape != (1, 3, _PROBE * scale, _PROBE * scale):
        raise SuperResolutionMissing(f"{path} makes {probe.shape} of 8 x 8 pixels; it is not a network for {scale}x.")
    return network


class _CallCounter:
    def __init__(self, calls: int, progress: Progress | None) -> None:
        self._left = self._calls = calls
        self._progress = progress

    def count(self) -> None:
        self._left -= 1
        if self._progress:
            self._progress(1.0 - self._left / self._calls)


def _calls(picture: Picture, pictures: int, config: SuperResConfig) -> int:
    rows, columns = (len(_spans(side, config)) for side in with_margin(picture).shape[:2])
    return rows * -(-columns * pictures // config.batch)


def _upscale_group(
    pictures: list[Picture], network: Network, config: SuperResConfig, counter: _CallCounter
) -> list[Picture]:
    """Enlarge pictures of one size, one row of tiles after the other. Each row is blended into the one above; its
    completed pixels are written out.
    """
    scale = network.scale
    height, width = pictures[0].shape[:2]
    results = [np.empty((height * scale, width * scale, 3), np.uint8) for _ in pictures]
    pending = np.zeros((len(pictures), 0, width * scale, 3), np.float32)
    rows = _spans(height, config)
    for index, row in enumerate(rows):
        strip = _strip([picture[row.start : row.stop] for picture in pictures], network, config, counter)
        strip *= np.repeat(row.weights, scale)[None, :, None, None]
        strip[:, : pending.shape[1]] += pending
        complete = (rows[index + 1].start if index + 1 < len(rows) else row.stop) - row.start
        for result, done in zip(results, strip[:, : complete * scale], strict=True):
            result[row.start * scale : (row.start + complete) * scale] = _quantised(done)
        pending = strip[:, complete * scale :].copy()
    return results


def _strip(parts: list[Picture], network: Network, config: SuperResConfig, counter: _CallCounter) -> np.ndarray:
    """One row of tiles of each picture, enlarged and blended across: float32 pictures x height x width x 3."""
    scale = network.scale
    height, width = parts[0].shape[:2]
    strip = np.zeros((len(parts), height * scale, width * scale, 3), np.float32)
    tiles = [(index, column) for index in range(len(parts)) for column in _spans(width, config)]
    for first in range(0, len(tiles), config.batch):
        chosen = tiles[first : first + config.batch]
        batch = np.stack([parts[index][:, column.start : column.stop] for index, column in chosen])
        enlarged = network.run(np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32) / np.float32(255))
        for (index, column), tile in zip(chosen, enlarged.transpose(0, 2, 3, 1), strict=True):
            weights = np.repeat(column.weights, scale)[None, :, None]
            strip[index][:, column.start * scale : column.stop * scale] += tile * weights
        counter.count()
    return strip


def _quantised(unit: np.ndarray) -> Picture:
    """Floats from 0 to 1 as uint8. Overwrites `unit`: copies of these rows would be the peak of memory."""
    np.clip(unit, 0.0, 1.0, out=unit)
    np.multiply(unit, 255.0, out=unit)
    return np.rint(unit, out=unit).astype(np.uint8)

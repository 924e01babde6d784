"""Graphs of a model, beside it: `onnx/manifest.json` and a file for each graph in the model's folder.

A graph is found by all that it depends on: the class and configuration of its module, the shapes of its weights, the
versions of the packages that made it, and this code's own. Change one of them, and it is made anew. Weights that change
alone change no graph.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
import transformers

from workers.engine.runtimes.export import OPSET, Graph, export_graph
from workers.engine.runtimes.graph_forms import GraphForm

logger = logging.getLogger(__name__)

FOLDER: Final = "onnx"
MANIFEST: Final = "manifest.json"
_FORM: Final = 1  # of the graphs; another one makes all of them anew
_VERSIONS: Final = {"torch": torch.__version__.split("+")[0], "diffusers": diffusers.__version__,
                    "transformers": transformers.__version__}  # fmt: skip


def source_digest(module: torch.nn.Module, config: Mapping[str, Any]) -> str:
    """Of all that the graph of a module depends on. `config`: of the component that the module is, or is a part of."""
    said = {str(key): repr(value) for key, value in config.items() if not str(key).startswith("_")}
    for name in ("dtype", "torch_dtype", "transformers_version", "name_or_path"):
        said.pop(name, None)
    shapes = [(name, list(value.shape)) for name, value in module.state_dict().items()]
    parts = [_FORM, OPSET, _VERSIONS, type(module).__name__, said, shapes]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def int8_digest(digest: str, module: torch.nn.Module) -> str:
    """Of a graph of 8 bits, which has the weights in it: also of their values."""
    found = hashlib.sha256(f"int8 {digest}".encode())
    for value in module.state_dict().values():
        found.update(value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


class GraphFolder:
    """The graphs of the model in `source`."""

    def __init__(self, source: str | Path) -> None:
        self.path = Path(source, FOLDER)

    def find(self, digest: str) -> Graph | None:
        """The graph of that source digest, if it lies here whole."""
        entry = self.entries().get(digest)
        if entry is None:
            return None
        try:
            content = (self.path / entry["file"]).read_bytes()
            if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                logger.warning("%s was changed after it was made; it is made anew", self.path / entry["file"])
                return None
            return Graph(content, tuple(entry["weights"]), entry["difference"], entry["seconds"])
        except (OSError, KeyError, TypeError):
            return None

    def make(self, part: str, module: Any, form: GraphForm, digest: str) -> Graph:
        """Export the graph and keep it here, in place of those of the part that older packages made. Raises
        ExportError."""
        graph = export_graph(module, form)
        self.keep(part, type(module).__name__, digest, graph)
        return graph

    def keep(self, part: str, module: str, digest: str, graph: Graph, notes: Mapping[str, Any] | None = None) -> None:
        """Write a graph and its entry; where the folder cannot be written, one log line."""
        try:
            self._keep(part, module, digest, graph, notes or {})
        except OSError as error:
            logger.warning("the graph of %s is not kept: %s", part, error)

    def remove(self, digest: str) -> None:
        """Forget a graph, so that it is made anew."""
        entries = self.entries()
        if (entry := entries.pop(digest, None)) is not None:
            self._write_manifest(entries)
            (self.path / entry["file"]).unlink(missing_ok=True)

    def entries(self) -> dict[str, Any]:
        """What the manifest says, by source digest."""
        try:
            return dict(json.loads((self.path / MANIFEST).read_text())["graphs"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError):
            logger.warning("%s is not readable; graphs are made anew", self.path / MANIFEST)
            return {}

    def _keep(self, part: str, module: str, digest: str, graph: Graph, notes: Mapping[str, Any]) -> None:
        self.path.mkdir(exist_ok=True)
        entry: dict[str, Any] = {
            "part": part,
            "module": module,
            "file": f"{part}-{digest[:12]}.onnx",
            "sha256": hashlib.sha256(graph.content).hexdigest(),
            "bytes": len(graph.content),
            "difference": float(f"{graph.difference:.1e}"),
            "seconds": round(graph.seconds, 1),
            "opset": OPSET,
            "versions": _VERSIONS,
            "weights": list(graph.weights),
            **notes,
        }
        _write(self.path / entry["file"], graph.content)
        before = self.entries()
        kept = {key: one for key, one in before.items() if one["part"] != part or one["versions"] == _VERSIONS}
        self._write_manifest({**kept, digest: entry})
        for key in before.keys() - kept.keys():
            (self.path / before[key]["file"]).unlink(missing_ok=True)

    def _write_manifest(self, entries: Mapping[str, Any]) -> None:
        text = json.dumps({"graphs": entries}, indent=1, sort_keys=True) + "\n"
        _write(self.path / MANIFEST, text.encode())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: workers read while another one writes."""
    partial = path.with_suffix(f".{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

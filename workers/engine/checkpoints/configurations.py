"""The configurations of the models that single files are made of: `configurations/NAME.json`.

`family` (of the engine), `pipeline` (class in diffusers), `settings` of its index, and `components`: of each its class
and its configuration; none where a file never brings the component and another model must. Tokenizers name a folder in
configurations/tokenizers. A folder in diffusers' format gives one as well, so checkpoints of any shape can be read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from workers.engine.checkpoints.files import Unusable

FOLDER: Final = Path(__file__).with_name("configurations")
_CONFIG_FILES: Final = {"scheduler": "scheduler_config.json"}


@dataclass(frozen=True)
class Component:
    """`class_name` in `library`, none where the model has no such part; `config` None: another model must bring it.
    `files`: the folder whose files belong to it, of a tokenizer.
    """

    library: str | None
    class_name: str | None
    config: Mapping[str, Any] | None = None
    files: Path | None = None

    @property
    def index_entry(self) -> list[str | None]:
        return [self.library, self.class_name]


@dataclass(frozen=True)
class Configuration:
    """`settings`: those of the pipeline that are no components."""

    name: str
    family: str
    pipeline: str
    settings: Mapping[str, Any]
    components: Mapping[str, Component]

    def index(self) -> dict[str, Any]:
        """The content of model_index.json."""
        parts = {name: component.index_entry for name, component in self.components.items()}
        return {"_class_name": self.pipeline, **self.settings, **parts}

    def write_plain(self, name: str, folder: Path) -> None:
        """A component without weights: its files and its configuration."""
        component = self.components[name]
        folder.mkdir(parents=True, exist_ok=True)
        if component.files is not None:
            shutil.copytree(component.files, folder, dirs_exist_ok=True)
        if component.config is not None:
            path = folder / config_file(name)
            path.write_text(json.dumps(component.config, indent=1, sort_keys=True) + "\n", "utf-8")


def config_file(component: str) -> str:
    """The name of a component's configuration."""
    if component.startswith("tokenizer"):
        return "tokenizer_config.json"
    return _CONFIG_FILES.get(component, "config.json")


def shipped_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


@cache
def shipped(name: str) -> Configuration:
    """One of those that ship. Raises Unusable."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise Unusable(f"There is no configuration {name}; known: {', '.join(shipped_names())}.")
    content = json.loads(path.read_text("utf-8"))
    components = {}
    for part, entry in content["components"].items():
        library, class_name = entry["class"]
        files = FOLDER / "tokenizers" / entry["tokenizer"] if "tokenizer" in entry else None
        components[part] = Component(library, class_name, entry.get("config"), files)
    return Configuration(name, content["family"], content["pipeline"], content["settings"], components)


def of_folder(folder: Path, family: str) -> Configuration:
    """The configuration of a model in diffusers' format. Raises Unusable."""
    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        components, settings = {}, {}
        for part, entry in index.items():
            if part.startswith("_"):
                continue
            if not isinstance(entry, list):
                settings[part] = entry
                continue
            components[part] = _component(folder, part, *entry)
        return Configuration(folder.name, family, index["_class_name"], settings, components)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(f"{folder} has no usable model_index.json with the configurations it names: {error}.") from error


def _component(folder: Path, part: str, library: str | None, class_name: str | None) -> Component:
    if class_name is None:
        return Component(None, None)
    path = folder / part / config_file(part)
    config = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return Component(library, class_name, config, path.parent if part.startswith("tokenizer") else None)

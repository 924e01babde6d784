"""What is compared, by name: the options of a model and what must be installed for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final


@dataclass(frozen=True)
class Variant:
    """`options`: of the model, beside its own. `package`: must be installed. `only_parts`: no runtime of the engine, so
    there are passes of single modules only."""

    options: Mapping[str, Any] = field(default_factory=dict)
    package: str = ""
    only_parts: bool = False

    @property
    def is_here(self) -> bool:
        return not self.package or find_spec(self.package) is not None


EAGER: Final = "eager"
CHANNELS_LAST: Final = "eager, channels_last"
ONNX: Final = "onnx"
ONNX_INT8: Final = "onnx-int8"
OPENVINO: Final = "openvino"
VARIANTS: Final[Mapping[str, Variant]] = {
    EAGER: Variant({"runtime": "eager"}),
    CHANNELS_LAST: Variant({"runtime": "eager", "speed": {"channels_last": True}}),
    ONNX: Variant({"runtime": "onnx"}, "onnxruntime"),
    ONNX_INT8: Variant({"runtime": "onnx-int8"}, "onnxruntime"),
    OPENVINO: Variant({}, "openvino", only_parts=True),
}


def here() -> list[str]:
    """Names of those that this machine has the packages for."""
    return [name for name, variant in VARIANTS.items() if variant.is_here]

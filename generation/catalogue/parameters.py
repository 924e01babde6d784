"""What a task is to do: one frozen value, made from the request, stored as JSON in the row, read by the workers.

Everything that a request may leave out (model, size, steps, sampler, seed ...) is decided here, once, at submission:
a task means the same on every worker and at every attempt.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from generation.catalogue.cost import megapixel_steps
from generation.queue.values import BatchKey

SCHEMA: Final = 1  # raised when the stored form changes; `from_json` reads all earlier ones
MAX_SEED: Final = 2**53 - 1  # what every JSON reader holds exactly
# Pixels, smallest and largest of the API. A request is bounded by its model (catalogue/models.py ImageModel.max_side)
# and its plan (accounts/models.py Plan.max_side); api/forms.py and accounts/plans.py check it.
SIDES: Final = (256, 2048)
RESOLUTION: Final = r"^\s*([0-9]{1,5})\s*[xX×*]\s*([0-9]{1,5})\s*$"  # as JavaScript reads it, too
SIDE_STEP: Final = 8  # the factor of the models' autoencoders


@dataclass(frozen=True)
class LoraChoice:
    """One LoRA of a task, bound to its immutable version by hash. `row` is the version's row, for counting its use."""

    name: str
    sha256: str
    source: str
    weight: float
    row: int = 0


@dataclass(frozen=True)
class Parameters:
    """The normalised parameters of one task. Sizes in pixels; `text` and `negative_text` include the style's words."""

    kind: str
    text: str
    negative_text: str
    width: int
    height: int
    steps: int
    cfg_scale: float
    sampler: str
    seed: int
    num_images: int = 1
    style: str = ""
    strength: float = 0.8
    image_key: str = ""
    mask_key: str = ""
    control_key: str = ""
    control_type: str = ""
    control_scale: float = 1.0
    control_start: float = 0.0  # part of the steps at which the control picture begins to count, and ends to
    control_end: float = 1.0
    control_ready: bool | None = None  # the control picture is taken as it is, drawn from, or (None) looked at
    loras: tuple[LoraChoice, ...] = ()
    postprocess: Mapping[str, Any] = field(default_factory=dict)
    style_tone: Mapping[str, Any] = field(default_factory=dict)
    plan_watermark: Mapping[str, Any] = field(default_factory=dict)
    deterministic: bool = False
    preview: bool = False
    cache: bool = False  # an identical request's picture may answer this one: only where the client chose the seed
    check_images: bool = False  # the key's profile wants every picture looked at before it is given out
    translated_text: str = ""  # what of the client's text and negative text was translated for the model, as it is read
    translated_negative_text: str = ""
    lowered_from: str = ""  # the resolution that was asked for, when a surge made it smaller
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """The form that the row keeps. Values are shared with this object, which nothing changes."""
        return {**vars(self), "loras": [asdict(lora) for lora in self.loras]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Parameters":
        """The value that the row keeps. Raises ValueError for a schema newer than this program's."""
        if stored["schema"] > SCHEMA:
            raise ValueError(f"the task was written with schema {stored['schema']}; this program reads up to {SCHEMA}")
        known = {item.name for item in fields(cls)}
        values = {name: value for name, value in stored.items() if name in known}
        values["loras"] = tuple(LoraChoice(**lora) for lora in stored.get("loras", ()))
        return cls(**values)

    def seed_of(self, index: int) -> int:
        """The seed of picture number `index`: the first has the task's own, the others follow."""
        return (self.seed + index) % (MAX_SEED + 1)

    @property
    def cost(self) -> float:
        """Megapixel-steps of the whole task."""
        return megapixel_steps(self.width, self.height, self.steps, self.num_images)

    def batch_key(self, model_key: str) -> BatchKey:
        """With whom this task may share a forward pass."""
        return BatchKey(model_key, self.width, self.height)


def new_seed() -> int:
    """A seed for a request that named none."""
    return secrets.randbelow(2**32)


def parse_resolution(text: str) -> tuple[int, int] | None:
    """`1024x1024`, `1024×1024` or `1024*1024` as (width, height) in pixels; None when it is not of that form."""
    found = re.fullmatch(RESOLUTION, text)
    return (int(found[1]), int(found[2])) if found else None

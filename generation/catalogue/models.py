"""Models, styles and LoRAs that requests name, and the presets that models are made of: rows that an admin edits, and
workers and API read.
"""

import hashlib
import json
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from generation.catalogue import model_rules
from generation.catalogue.kinds import CONTROLNET
from generation.catalogue.model_files import located
from postprocessing.recipe import Recipe, RecipeError

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")


class ImageModel(models.Model):
    """One entry of the model registry: a name that clients use, and where and how a worker loads it.

    Adding a model of a known family is adding a row; a new family is one class in `workers.engine.models` beside it.
    """

    name = models.SlugField(unique=True)
    title = models.CharField(max_length=100)
    family = models.CharField(
        max_length=40, help_text="Which class loads it: sd15, sd21, sdxl, sd3, flux and others of docs/engine.md."
    )
    source = models.CharField(
        max_length=500, help_text="Folder of the weights (relative: below MODELS_DIR) or address."
    )
    revision = models.CharField(max_length=64, default="1", help_text="Change it and workers load the new weights.")
    precision = models.CharField(
        max_length=8,
        default="auto",
        choices=[(name, name) for name in PRECISIONS],
        help_text="Of the weights. auto: what GPU_PRECISION says. int8: 8-bit weights, a third of the memory. Where "
        "memory is short a model is loaded in the next lower one.",
    )
    options = models.JSONField(
        default=dict, blank=True, help_text="Settings of the family, speed among them: docs/engine.md has the list."
    )
    kinds = models.JSONField(default=list, help_text="Task kinds it can do.")
    aliases = models.JSONField(default=list, blank=True, help_text="Other names that clients may use.")
    min_side = models.PositiveIntegerField(default=256)
    max_side = models.PositiveIntegerField(default=1024)
    default_width = models.PositiveIntegerField(default=512)
    default_height = models.PositiveIntegerField(default=512)
    default_steps = models.PositiveSmallIntegerField(default=25)
    max_steps = models.PositiveSmallIntegerField(default=100)
    default_cfg_scale = models.FloatField(default=7.5)
    default_sampler = models.CharField(max_length=20, default="dpm++")
    fallback = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    enabled = models.BooleanField(default=True)
    position = models.PositiveSmallIntegerField(
        default=100, help_text="The enabled model with the smallest is the default."
    )
    plans = models.ManyToManyField(
        "generation.Plan", blank=True, related_name="+", help_text="Plans that may use it. None chosen: all may."
    )
    teams = models.ManyToManyField(
        "generation.Team", blank=True, related_name="+", help_text="Teams that may use it, whatever their plan."
    )
    tried = models.CharField(max_length=64, blank=True, editable=False)
    tried_at = models.DateTimeField(null=True, blank=True, editable=False)
    problem = models.TextField(blank=True, editable=False)
    measured_memory = models.JSONField(
        default=dict, blank=True, editable=False, help_text="By precision, as workers measured it: bytes, revision ..."
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.title

    def clean(self) -> None:
        """Refuse what a worker could not load or would leave unread."""
        faults = {
            "family": [] if self.family in model_rules.FAMILIES else [_unknown_family(self.family)],
            "kinds": list(model_rules.kind_faults(self.family, self.kinds)),
            "options": list(model_rules.option_faults(self.family, self.options)),
            "source": list(model_rules.source_faults(self.family, self.source, located(self.source))),
            "default_sampler": list(model_rules.sampler_faults(self.default_sampler)),
            "default_width": list(
                model_rules.side_faults(self.min_side, self.max_side, self.default_width, self.default_height)
            ),
        }
        if faults["family"]:
            faults = {"family": faults["family"]}
        if found := {field: messages for field, messages in faults.items() if messages}:
            raise ValidationError(found)

    @property
    def key(self) -> str:
        """`name@revision`: what a task is bound to and a worker loads."""
        return f"{self.name}@{self.revision}"

    @property
    def fingerprint(self) -> str:
        """Of all that decides whether it can be loaded."""
        parts = [self.key, self.family, self.source, self.precision, self.options]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def loads(self) -> bool | None:
        """Whether a worker could load it as it is now; None: none has tried. `problem` says why it could not."""
        return None if self.tried != self.fingerprint else not self.problem

    @property
    def control_types(self) -> tuple[str, ...]:
        """Kinds of control pictures for which it declares a ControlNet; none where its class needs no declaration."""
        return tuple(self.options.get("controlnets", {}))


def _unknown_family(family: str) -> str:
    return f"There is no family {family!r}. Known: {', '.join(model_rules.FAMILIES)}."


class Style(models.Model):
    """Words put around a prompt, and the tone of the finished picture."""

    name = models.SlugField(unique=True)
    title = models.CharField(max_length=100)
    title_zh = models.CharField(max_length=100, blank=True)
    prompt = models.CharField(
        max_length=500, help_text="Holds {text}, where the request's text goes.", default="{text}"
    )
    negative_prompt = models.CharField(max_length=500, blank=True)
    tone = models.JSONField(default=dict, blank=True, help_text="Tone settings of post-processing.")
    child_safe = models.BooleanField(default=False)
    enabled = models.BooleanField(default=True)
    position = models.PositiveSmallIntegerField(default=100)

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.title

    def clean(self) -> None:
        """Refuse words that would not be used, and a tone that post-processing cannot read."""
        faults: dict[str, list[str]] = {}
        if "{text}" not in self.prompt:
            faults["prompt"] = ["Write {text} where the request's text goes; without it the words are not used."]
        try:
            Recipe.from_json({}, self.tone)
        except RecipeError as error:
            faults["tone"] = [f"{fault.field}: {fault.message}" for fault in error.faults]
        if faults:
            raise ValidationError(faults)


class Lora(models.Model):
    """One immutable version of an uploaded LoRA. The file is named by its hash; a new upload is a new version."""

    class State(models.TextChoices):
        VALIDATING = "validating"
        ACTIVE = "active"
        DISABLED = "disabled"
        REFUSED = "refused"
        DELETED = "deleted"

    name = models.SlugField()
    version = models.PositiveIntegerField(default=1)
    title = models.CharField(max_length=100, blank=True)
    owner = models.ForeignKey(
        "generation.User", on_delete=models.PROTECT, null=True, blank=True, help_text="Empty: everybody's."
    )
    sha256 = models.CharField(max_length=64, db_index=True)
    source = models.CharField(max_length=500, help_text="Storage key, or a path below MODELS_DIR.")
    bytes = models.BigIntegerField(default=0)
    rank = models.PositiveIntegerField(default=0)
    base_family = models.CharField(max_length=40, default="stable-diffusion")
    triggers = models.JSONField(default=list, blank=True)
    state = models.CharField(max_length=12, choices=State, default=State.VALIDATING)
    reason = models.CharField(max_length=500, blank=True)
    uses = models.BigIntegerField(default=0)
    plans = models.ManyToManyField(
        "generation.Plan", blank=True, related_name="+", help_text="Plans that may use it. None chosen: all may."
    )
    teams = models.ManyToManyField(
        "generation.Team", blank=True, related_name="+", help_text="Teams that may use it, whatever their plan."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name", "version"], name="lora_owner_name_version", nulls_distinct=False
            )
        ]
        ordering = ["name", "-version"]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class ModelPreset(models.Model):
    """A model that is known to the public, as `manage.py models pull` fetches it: where it is, which of its files, what
    they weigh, what its licence asks for, and the values of the row that it becomes.
    """

    class Kind(models.TextChoices):
        MODEL = "model", "a model"
        ADAPTER = "adapter", "a few-step form: a LoRA fused into another preset's weights"
        LORA = "lora", "a LoRA that requests name"
        CONTROLNET = CONTROLNET, "a ControlNet of other models"
        PREPROCESSOR = "preprocessor", "draws control pictures for other models"
        SUPERRES = "superres", "a network for enlargement"
        REMOTE = "remote", "a model of another service: no files"

    class Pull(models.TextChoices):
        """Of a pull that was asked for in the admin (presets/requested.py)."""

        ASKED = "asked", "waits"
        RUNNING = "running", "is being pulled"
        DONE = "done", "pulled"
        FAILED = "failed", "failed"

    name = models.SlugField(unique=True)
    title = models.CharField(max_length=100)
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.MODEL)
    repository = models.CharField(max_length=200, blank=True, help_text="On the hub, as owner/name; or an address.")
    revision = models.CharField(
        max_length=40, blank=True, help_text="The exact revision. Empty: the newest when it is pulled, which is noted."
    )
    files = models.JSONField(default=list, blank=True, help_text="Names or patterns of its files. Empty: all.")
    hashes = models.JSONField(default=dict, blank=True, help_text="SHA-256 of files for which it is known, by name.")
    base = models.CharField(max_length=50, blank=True, help_text="Preset that it needs, whose weights it uses.")
    parameters = models.JSONField(
        default=dict, blank=True, help_text="Numbers of weights by component: memory and download are computed of them."
    )
    bytes_per_weight = models.PositiveSmallIntegerField(default=2, help_text="In the files that are fetched.")
    licence = models.CharField(max_length=100, blank=True)
    licence_url = models.URLField(max_length=300, blank=True)
    must_accept = models.BooleanField(
        default=False, help_text="Its licence restricts use: `pull` wants --accept-licence."
    )
    gated = models.BooleanField(
        default=False, help_text="The hub wants a token (HF_TOKEN) of somebody who agreed there."
    )
    row = models.JSONField(default=dict, blank=True, help_text="Values of the model's row, or what it is attached to.")
    note = models.CharField(max_length=300, blank=True)
    unusable = models.CharField(
        max_length=300, blank=True, help_text="Why the engine cannot run it yet. Empty: it can."
    )
    pull_state = models.CharField(max_length=8, choices=Pull, blank=True, editable=False)
    pull_note = models.TextField(blank=True, editable=False)
    pull_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.title

    @property
    def aliases(self) -> list[Any]:
        return list(self.row.get("aliases", []))


class ModelImport(models.Model):
    """A file or folder of an operator that is to become a model, a LoRA, a ControlNet ...: asked for in the admin, done
    by a housekeeping process (generation/catalogue/presets/incoming.py).
    """

    class State(models.TextChoices):
        ASKED = "asked", "waits"
        RUNNING = "running", "is being imported"
        DONE = "done", "imported"
        FAILED = "failed", "failed"

    file = models.CharField(max_length=255, help_text="In MODELS_DIR/.incoming.")
    name = models.SlugField(blank=True, help_text="Of the model. Empty: that of the file.")
    family = models.CharField(max_length=40, blank=True, help_text="Where the file does not show it: sd15, sdxl ...")
    like = models.CharField(max_length=50, blank=True, help_text="Preset whose size, steps and guidance it gets.")
    models_for = models.JSONField(
        default=list, blank=True, help_text="Names of the models that a ControlNet or a VAE is for."
    )
    control_type = models.CharField(max_length=20, blank=True, help_text="Of a ControlNet: canny, depth ...")
    parts = models.CharField(max_length=200, blank=True, help_text="Model here that brings what the file lacks.")
    replace = models.BooleanField(default=False, help_text="The model of that name, if there is one.")
    state = models.CharField(max_length=8, choices=State, default=State.ASKED, editable=False)
    note = models.TextField(blank=True, editable=False)
    at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.file

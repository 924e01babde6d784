"""Models, styles and LoRAs that requests name: rows that an admin edits, and workers and API read."""

from django.db import models
from django.utils import timezone

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
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.title

    @property
    def key(self) -> str:
        """`name@revision`: what a task is bound to and a worker loads."""
        return f"{self.name}@{self.revision}"

    @property
    def control_types(self) -> tuple[str, ...]:
        """Kinds of control pictures for which it declares a ControlNet; none where its class needs no declaration."""
        return tuple(self.options.get("controlnets", {}))

    @property
    def known_words(self) -> list[str] | None:
        """The words and phrases that it was trained on, where its option `words` names them; None: too many to name."""
        words = self.options.get("words")
        return words.split(" ") if isinstance(words, str) and words else None


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

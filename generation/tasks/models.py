"""Tasks, their batches and pictures, idempotency keys, and the usage of each day. Tasks and pictures are partitioned by
the day in their id (generation/tasks/partitions.py).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db import models
from django.utils import timezone

from generation.catalogue.models import ImageModel
from generation.catalogue.parameters import Parameters
from imagegenx_site.ids import family_of, moment_of, to_public, uuid7
from postprocessing.recipe import Recipe


class Status(models.TextChoices):
    """The states of a task. Only generation/tasks/states.py moves a task from one to another."""

    QUEUED = "queued"
    RUNNING = "running"
    GENERATED = "generated"
    PROCESSED = "processed"
    STORED = "stored"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


OPEN = (Status.QUEUED, Status.RUNNING, Status.GENERATED, Status.PROCESSED, Status.STORED)
TERMINAL = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)
# Values of `stage_owner` that name no worker.
OWNER_WAITING = "waiting"  # the last try failed; nobody holds the stage, and it is tried again from `stage_until` on
OWNER_GIVEN_UP = "given up"  # the last try of the enlargement failed; it is not tried again


class Batch(models.Model):
    """Several tasks made by one request."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey("generation.User", on_delete=models.CASCADE, related_name="batches")
    size = models.PositiveIntegerField()
    batch_size = models.PositiveSmallIntegerField(
        default=4, help_text="Its tasks that may share a forward pass; 0: no limit."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        """The id that clients see."""
        return to_public(self.id, "bat")


class _Work:
    """What the JSON of a row asks for, parsed when it is first needed."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    @cached_property
    def parameters(self) -> Parameters:
        return Parameters.from_json(self.params)

    @cached_property
    def recipe(self) -> Recipe:
        asked = self.parameters
        recipe = Recipe.from_json(dict(asked.postprocess), dict(asked.style_tone))
        return recipe.marked(asked.plan_watermark)


class Task(models.Model):
    """One text of a request and what became of it. Tickets, queue entries and caches are copies, rebuilt from it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey("generation.User", on_delete=models.PROTECT, related_name="tasks")
    api_key = models.ForeignKey("generation.ApiKey", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    batch = models.ForeignKey(Batch, on_delete=models.SET_NULL, null=True, blank=True, related_name="tasks")
    kind = models.CharField(max_length=20)
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    priority = models.PositiveSmallIntegerField(default=2, help_text="0 (P0, urgent) to 3 (P3, test).")
    model = models.ForeignKey(
        "generation.ImageModel",
        on_delete=models.PROTECT,
        related_name="+",
        null=True,
        blank=True,
        help_text="None for a picture that is only processed.",
    )
    model_key = models.CharField(
        max_length=130, blank=True, help_text="name@revision that the task is bound to; empty where there is no model."
    )
    style = models.CharField(max_length=50, blank=True)
    text = models.TextField(help_text="The prompt as the client gave it.")
    params = models.JSONField(help_text="generation.catalogue.parameters.Parameters, with its schema version.")
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    batch_key = models.CharField(max_length=160, blank=True, help_text="What may share a forward pass.")
    cost = models.FloatField(default=0, help_text="Megapixel-steps: the weight in fair sharing and quotas.")
    progress = models.PositiveSmallIntegerField(default=0, help_text="0 to 100.")
    warnings = models.JSONField(default=list, blank=True)
    callback_url = models.CharField(max_length=2000, blank=True)
    cancel_requested = models.BooleanField(default=False)
    error_code = models.CharField(max_length=50, blank=True)
    error_message = models.CharField(max_length=1000, blank=True)
    attempt = models.PositiveSmallIntegerField(default=0, help_text="Claims so far: the fence of the present one.")
    worker = models.CharField(max_length=100, blank=True)
    stage_owner = models.CharField(max_length=100, blank=True, help_text="Who holds the present CPU or IO stage.")
    stage_until = models.DateTimeField(null=True, blank=True, help_text="End of that lease, or earliest next try.")
    stage_attempts = models.PositiveSmallIntegerField(default=0)
    history = models.JSONField(default=list, blank=True, help_text="Every move: time, state, attempt, worker, reason.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(help_text="Not claimed by then: expired.")
    started_at = models.DateTimeField(null=True, blank=True)
    generated_at = models.DateTimeField(null=True, blank=True)
    stored_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(default=timezone.now)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="Hidden from its owner; text and pictures gone.")

    _work: _Work | None = None
    saved_images: "Sequence[Image] | None" = None  # as this process has just written them

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["user", "-id"], name="task_user"),
            models.Index(fields=["status", "id"], name="task_open", condition=models.Q(status__in=OPEN)),
            models.Index(fields=["batch"], name="task_batch", condition=models.Q(batch__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        """The id that clients see."""
        return to_public(self.id)

    @property
    def waits(self) -> bool:
        """Whether nobody works on it yet, or again. Of tasks without a model the lease of their first stage sets
        `started_at`.
        """
        not_begun = self.model_id is None and self.started_at is None
        return self.status == Status.QUEUED or (self.status == Status.GENERATED and not_begun)

    @property
    def drawing_model(self) -> ImageModel:
        """The model of a task that a GPU worker has: there is one. Raises ValueError."""
        if self.model is None:
            raise ValueError(f"{self.public_id} has no model")
        return self.model

    @property
    def parameters(self) -> Parameters:
        """What `params` says. Parsed once for each value that the field is given: assign it, don't change it in place.
        Raises ValueError for a row that a newer program wrote.
        """
        return self._parsed().parameters

    @parameters.setter
    def parameters(self, parameters: Parameters) -> None:
        self.params = parameters.to_json()
        self._work = _Work(self.params)
        self._work.parameters = parameters

    @property
    def recipe(self) -> Recipe:
        """What is done to the pictures: the request's own block, the style's tone, the plan's mark."""
        return self._parsed().recipe

    def _parsed(self) -> _Work:
        if self._work is None or self._work.params is not self.params:
            self._work = _Work(self.params)
        return self._work

    @property
    def terminal(self) -> bool:
        """Whether the task has come to its one end."""
        return self.status in TERMINAL

    @property
    def image_rows(self) -> "models.QuerySet[Image]":
        """Rows of its images, looked for in the partition of its day alone."""
        return Image.objects.filter(task_id=self.pk, id__range=family_of(self.pk))

    def known_images(self) -> "Sequence[Image]":
        """The rows of its images: those that this process has just written, else read."""
        return self.saved_images if self.saved_images is not None else list(self.image_rows)


class Mark(models.TextChoices):
    """What somebody thinks of a picture."""

    NONE = "", "not marked"
    APPROVED = "approved"
    REJECTED = "rejected"


class Image(models.Model):
    """One finished picture of a task. Its id follows from the task's (imagegenx_site.ids.image_id), so storing
    twice meets the same row.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="images")
    index = models.PositiveSmallIntegerField()
    seed = models.BigIntegerField()
    key = models.CharField(max_length=300, help_text="Object key of the original.")
    thumbnail_key = models.CharField(max_length=300, blank=True)
    format = models.CharField(max_length=8)
    content_type = models.CharField(max_length=30)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    mark = models.CharField(max_length=8, choices=Mark, default=Mark.NONE, db_default="", blank=True)
    archived_at = models.DateTimeField(null=True, blank=True, help_text="Its original lies in the archive since then.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["task", "index"], name="image_task"),
            models.Index(fields=["mark", "id"], name="image_marked", condition=~models.Q(mark="")),
        ]

    def __str__(self) -> str:
        return f"{to_public(self.task_id)}/{self.index}"


class Board(models.Model):
    """Pictures that belong together: a folder. Whoever made it, and of a shared one the team, sees it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey("generation.User", on_delete=models.CASCADE, related_name="boards")
    name = models.CharField(max_length=100)
    shared = models.BooleanField(default=False, help_text="The team sees it; its members put pictures on it.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        """The id that clients see."""
        return to_public(self.id, "brd")


class BoardPicture(models.Model):
    """A picture on a board. It holds plain ids, so that it never blocks a partition's end."""

    board = models.ForeignKey(Board, on_delete=models.CASCADE, related_name="pictures")
    task_id = models.UUIDField()
    index = models.PositiveSmallIntegerField()
    added_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["board", "task_id", "index"], name="on_board_once")]
        indexes = [models.Index(fields=["task_id"], name="board_picture_task")]


class IdempotencyKey(models.Model):
    """A client's promise that two requests are one. Kept 24 h. Holds the plain id of the task or batch that was made,
    so that it never blocks a partition's end; of what is neither, the answer, sealed because keys and secrets are in
    such answers (generation/tasks/idempotency.py).
    """

    api_key = models.ForeignKey("generation.ApiKey", on_delete=models.CASCADE)
    key = models.CharField(max_length=255)
    route = models.CharField(max_length=100)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the canonical body.")
    task_id = models.UUIDField(null=True)
    answer = models.BinaryField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["api_key", "route", "key"], name="idempotency_once")]
        indexes = [models.Index(fields=["created_at"], name="idempotency_age")]


def day_of(identifier: UUID) -> str:
    """The day of a row by its id, as `YYYY-MM-DD`: the partition that holds it."""
    return moment_of(identifier).date().isoformat()


class UsageDay(models.Model):
    """The tasks that one key sent on one day (UTC) that is over, by model and kind: kept when the tasks themselves are
    gone (generation/tasks/usage.py).
    """

    day = models.DateField()
    user = models.ForeignKey("generation.User", on_delete=models.CASCADE, related_name="usage_days")
    api_key = models.ForeignKey("generation.ApiKey", on_delete=models.SET_NULL, null=True, related_name="+")
    model_name = models.CharField(max_length=60)
    kind = models.CharField(max_length=20)
    tasks = models.PositiveBigIntegerField()
    succeeded = models.PositiveBigIntegerField()
    images = models.PositiveBigIntegerField(help_text="Pictures of the tasks that succeeded.")
    megapixel_steps = models.FloatField(help_text="Work asked for by tasks that did not expire or fail.")

    class Meta:
        ordering = ["-day"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "day", "api_key", "model_name", "kind"], name="usage_once", nulls_distinct=False
            )
        ]

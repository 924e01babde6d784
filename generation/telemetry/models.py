"""Alerts for operators."""

from django.db import models
from django.utils import timezone


class Alert(models.Model):
    """A lost process or device. `cleared_at` is set when its pool is whole again."""

    class Kind(models.TextChoices):
        DEVICE_LOST = "device_lost", "the device or the engine failed"
        WORKER_LOST = "worker_lost", "the worker died, hung or went silent"
        PROCESS_LOST = "process_lost", "another process died or hung"
        MODEL_FAILED = "model_failed", "a model cannot be loaded"

    kind = models.CharField(max_length=20, choices=Kind)
    worker = models.CharField(max_length=100, help_text="Its name: a pod, a container.")
    pool = models.CharField(max_length=200, default="gpu-worker", help_text="The processes that do the same work.")
    message = models.CharField(max_length=500)
    raised_at = models.DateTimeField(default=timezone.now)
    cleared_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["worker"], name="alert_open", condition=models.Q(cleared_at__isnull=True))]

    def __str__(self) -> str:
        return f"{self.worker}: {self.get_kind_display()}"

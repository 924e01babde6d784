"""What was used on days that are over: kept when the tasks themselves are gone (generation/usage.py)."""

from django.db import models


class UsageDay(models.Model):
    """The tasks that one key sent on one day (UTC), by model and kind."""

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

"""The content policy: blocked terms, profiles that restrict a key, and recorded refusals."""

from django.db import models
from django.utils import timezone


class PolicyProfile(models.Model):
    """Restricts the keys bound to it to some styles, models and subjects: a child-safe profile, for example."""

    name = models.SlugField(unique=True)
    title = models.CharField(max_length=100)
    child_safe_styles = models.BooleanField(default=False, help_text="Only styles marked as child-safe.")
    model_names = models.JSONField(default=list, blank=True, help_text="Names of the models allowed. Empty: all.")
    subjects = models.JSONField(
        default=list, blank=True, help_text="The text must name one of these, in any language given. Empty: anything."
    )

    check_images = models.BooleanField(
        default=False, help_text="Every picture must pass the image checker; without one nothing is made."
    )

    def __str__(self) -> str:
        return self.title


class BlockedTerm(models.Model):
    """A word or phrase that no text may contain: for everybody, for the keys of a profile, or for one key and those
    that it makes from then on.

    generation/policy/rules.py says how texts are compared.
    """

    term = models.CharField(max_length=100)
    reason = models.SlugField(default="blocked", help_text="The reason code in the answer.")
    profile = models.ForeignKey(PolicyProfile, on_delete=models.CASCADE, null=True, blank=True, related_name="terms")
    api_key = models.ForeignKey("generation.ApiKey", on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["term"]
        constraints = [
            models.UniqueConstraint(fields=["term", "profile", "api_key"], name="term_once", nulls_distinct=False)
        ]

    def __str__(self) -> str:
        return self.term


class PolicyRefusal(models.Model):
    """A refused request and the rule that refused it. Holds no text of the request."""

    user = models.ForeignKey("generation.User", on_delete=models.CASCADE, related_name="+")
    api_key = models.ForeignKey("generation.ApiKey", on_delete=models.CASCADE, related_name="+")
    reason = models.CharField(max_length=50)
    rule = models.CharField(max_length=120, help_text="The kind of the rule and its row, e.g. term:17.")
    kind = models.CharField(max_length=20)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["created_at"], name="refusal_age")]

    def __str__(self) -> str:
        return f"{self.reason} ({self.rule})"

"""Teams, users, plans and API keys."""

import hashlib
import secrets
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.dispatch import Signal
from django.utils import timezone

from generation.catalogue.kinds import KINDS
from imagegenx_site.config import SCOPES as SCOPES
from postprocessing.recipe import Recipe, RecipeError

keys_updated = Signal()  # sent by an UPDATE of keys, inside its transaction; `prefixes`: the changed keys


def all_kinds() -> list[str]:
    return list(KINDS)


class Plan(models.Model):
    """The limits of the keys bound to it. A limit of 0 allows nothing, None is unlimited."""

    name = models.SlugField(unique=True)
    title = models.CharField(max_length=100)
    paid = models.BooleanField(default=False, help_text="Paid plans are not lowered or turned away in a surge.")
    max_side = models.PositiveIntegerField(default=1024, help_text="Largest width or height in pixels.")
    max_images = models.PositiveSmallIntegerField(default=4, help_text="Pictures of one request.")
    kinds = models.JSONField(default=all_kinds, help_text="Task kinds that may be asked for.")
    super_resolution = models.BooleanField(default=False)
    watermark = models.JSONField(
        null=True,
        blank=True,
        help_text="A mark on every picture, drawn last, as in docs/postprocessing.md: "
        '{"kind": "text", "text": "preview"}.',
    )
    lora_upload = models.BooleanField(default=False)
    priority_cap = models.PositiveSmallIntegerField(default=2, help_text="Most urgent class allowed: 0 (P0) to 3 (P3).")
    priority_default = models.PositiveSmallIntegerField(default=2)
    requests_per_second = models.PositiveIntegerField(
        default=30, help_text="For each API key, and for each user and IP address."
    )
    concurrent_tasks = models.PositiveIntegerField(null=True, blank=True, default=100)
    daily_images = models.PositiveIntegerField(null=True, blank=True)
    daily_megapixel_steps = models.PositiveIntegerField(null=True, blank=True)
    queue_seconds = models.PositiveIntegerField(default=300, help_text="Seconds a task may wait before it expires.")

    def __str__(self) -> str:
        return self.title

    def clean(self) -> None:
        """Refuse a watermark that cannot be drawn: every task of the plan would fail."""
        if self.watermark:
            try:
                Recipe().marked(self.watermark)
            except RecipeError as error:
                raise ValidationError({"watermark": [str(error)]}) from error


class Team(models.Model):
    """The users of one customer. They see each other's tasks."""

    name = models.CharField(max_length=100, unique=True)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="teams")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    """What a member may do; generation/accounts/rights.py says what follows."""

    OWNER = "owner", "owner: also changes the members"
    MEMBER = "member", "member: makes and changes pictures"
    VIEWER = "viewer", "viewer: sees the team's pictures"


class User(AbstractUser):
    """A person or a service account of one team."""

    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER, db_default="member")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="members", null=True, blank=True)


class ApiKeyQuerySet(models.QuerySet):
    """An UPDATE sends no `post_save`; this one sends `keys_updated`, so that the cached keys are dropped."""

    def update(self, **changes: Any) -> int:
        if changes.keys() <= {"last_used_at"}:
            return super().update(**changes)
        with transaction.atomic():
            prefixes = list(self.values_list("prefix", flat=True))
            changed = super().update(**changes)
            keys_updated.send(sender=ApiKey, prefixes=prefixes)
        return changed


class ApiKey(models.Model):
    """A secret that acts for a user.

    Only `digest` = SHA-256 of the secret is stored. A random secret of 192 bits needs no slow hash, and the digest
    is the key of signed requests (the client computes it from the secret). `prefix` identifies the row and is not
    secret.
    """

    PREFIX_BYTES: ClassVar[int] = 5
    SECRET_BYTES: ClassVar[int] = 24

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, null=True, blank=True, help_text="Empty: the team's plan.")
    name = models.CharField(max_length=100, default="key")
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    scopes = models.JSONField(default=list, blank=True, help_text="Empty: all.")
    profile = models.ForeignKey(
        "generation.PolicyProfile",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        help_text="Bounds what may be drawn.",
    )
    must_sign = models.BooleanField(default=False, help_text="Only signed requests are taken.")
    of_page = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="Stands for a user who signed in to the page; has no secret.",
    )
    oauth_client = models.CharField(
        max_length=100, blank=True, editable=False, help_text="Stands for this OAuth application; has no secret."
    )
    made_through = models.ForeignKey(
        "self",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        editable=False,
        related_name="made_keys",
        help_text="The row of the OAuth application that made it: it ends with that.",
    )
    oauth_grant = models.CharField(
        max_length=60, blank=True, editable=False, help_text="What of OAuth it ends with (accounts/oauth.py)."
    )
    terms_of = models.JSONField(
        default=list, blank=True, editable=False, help_text="Other keys whose blocked terms hold for this one."
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "oauth_client"], name="key_of_oauth_client", condition=~models.Q(oauth_client="")
            ),
            models.UniqueConstraint(
                fields=["user"], name="key_of_page", condition=models.Q(of_page=True, revoked_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @classmethod
    def make(cls, user: User, **fields: object) -> tuple["ApiKey", str]:
        """A new row, and the full key, which is not stored and can't be shown again."""
        prefix, secret = secrets.token_hex(cls.PREFIX_BYTES), secrets.token_urlsafe(cls.SECRET_BYTES)
        row = cls.objects.create(user=user, prefix=prefix, digest=cls.digest_of(secret), **fields)
        return row, f"igx_{prefix}_{secret}"

    @staticmethod
    def digest_of(secret: str) -> str:
        """SHA-256 of the secret part, hexadecimal."""
        return hashlib.sha256(secret.encode()).hexdigest()

    @property
    def effective_plan(self) -> Plan | None:
        """The key's own plan, else its team's."""
        return self.plan or (self.user.team.plan if self.user.team else None)


class SecondFactor(models.Model):
    """An authenticator app of a user (generation/accounts/second_factor.py). It counts from `confirmed_at` on."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="second_factor")
    secret = models.BinaryField(editable=False, help_text="Sealed under SECRET_KEY.")
    last_step = models.BigIntegerField(default=0, editable=False, help_text="Time step of the last code taken.")
    recovery = models.JSONField(default=list, editable=False, help_text="SHA-256 of the recovery codes that are left.")
    confirmed_at = models.DateTimeField(null=True, editable=False)

    def __str__(self) -> str:
        return f"second factor of {self.user_id}"


class ExternalLogin(models.Model):
    """A person at an identity provider (OpenID Connect) who is one of our users."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="external_logins")
    issuer = models.CharField(max_length=300)
    subject = models.CharField(max_length=255, help_text="Who it is there; never given to another.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="external_login_once")]

    def __str__(self) -> str:
        return f"{self.subject} at {self.issuer}"

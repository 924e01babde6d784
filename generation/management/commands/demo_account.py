"""`manage.py demo_account`: a user with a key and an admin, for the first start of a single machine."""

import json
import secrets
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from generation.accounts.models import ApiKey, Plan, Role, Team, User


class Command(BaseCommand):
    """Creates the team, the user and a new key: keys can't be shown again, so every call creates another one.

    Sets the admin's password to --admin-password, or to a new one that is printed.
    """

    help = "Make the demo user with an API key, and the admin. Prints both."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")
        parser.add_argument("--plan", default="paid", help="The plan of the demo team.")
        parser.add_argument("--admin-password", default="", help="Empty: a new one.")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        team, _ = Team.objects.get_or_create(name="demo", defaults={"plan": Plan.objects.get(name=options["plan"])})
        user, _ = User.objects.get_or_create(username="demo", defaults={"team": team, "role": Role.OWNER})
        _, key = ApiKey.make(user, name="demo")
        password = options["admin_password"] or secrets.token_urlsafe(12)
        admin, _ = User.objects.get_or_create(
            username="admin", defaults={"is_staff": True, "is_superuser": True, "team": team, "role": Role.OWNER}
        )
        admin.set_password(password)
        admin.save(update_fields=["password"])
        account = {"api_key": key, "admin": {"user": "admin", "password": password}}
        self.stdout.write(json.dumps(account) if options["json"] else f"key: {key}\nadmin: admin / {password}")

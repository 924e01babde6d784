"""`manage.py second_factor_off NAME`: a user who has lost the device and the recovery codes logs in without a code."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from generation.accounts import second_factor
from generation.accounts.models import User


class Command(BaseCommand):
    """The password stays as it is."""

    help = "Switch off the second factor of a user."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["name"]).first()
        if user is None or not second_factor.switch_off(user):
            raise CommandError("There is no such user, or the second factor is off.")
        self.stdout.write("The second factor is off.")

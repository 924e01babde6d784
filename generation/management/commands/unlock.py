"""`manage.py unlock NAME`: forget the failed attempts of a user, an OAuth application or an API key."""

from typing import Any

from django.core.management.base import BaseCommand

from generation.admission import failures


class Command(BaseCommand):
    """Counters only: it changes no password, and opens nothing."""

    help = "Forget the failed logins of a user name, an OAuth client id or the id of an API key."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{failures.unlock(options['name'])} counters forgotten.")

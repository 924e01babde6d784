from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from storage.bucket import BucketPlan, prepare_bucket
from storage.store import images

_PLANNED = ("keep_days", "old_version_days", "replica", "role", "archive_class")


class Command(BaseCommand):
    help = "Create the bucket of the finished pictures; set versions, lifecycle and replication, if the store has them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--keep-days", type=int, default=settings.HISTORY_DAYS, help="0: nothing is deleted by the store"
        )
        parser.add_argument("--old-version-days", type=int, default=30)
        parser.add_argument("--replica", default="", help="ARN of the bucket in the other region")
        parser.add_argument("--role", default="", help="ARN of the role that replicates")
        parser.add_argument(
            "--archive-class",
            default="",
            help="storage class of archive/; GLACIER and DEEP_ARCHIVE take hours to return",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.IMAGE_STORE != "s3":
            raise CommandError("IMAGE_STORE is not s3: there is no bucket.")
        from storage.s3 import S3Driver

        driver = images().driver
        assert isinstance(driver, S3Driver)
        try:
            outcomes = prepare_bucket(
                driver.client, driver.bucket, BucketPlan(**{name: options[name] for name in _PLANNED})
            )
        except (ClientError, BotoCoreError) as error:
            raise CommandError(str(error)) from error
        for outcome in outcomes:
            self.stdout.write(f"{outcome.what}: {outcome.state} {outcome.detail}".rstrip())
        if any(outcome.state == "refused" for outcome in outcomes):
            raise CommandError("The store refused a setting.")

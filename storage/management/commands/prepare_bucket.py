import math
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.core.files.storage import storages
from django.core.management.base import BaseCommand, CommandError, CommandParser

from storage.bucket import BucketPlan, BucketSetting, prepare_bucket

# Backstops behind the product's own sweeps (workers/housekeeping): a lossless picture may wait for its enlargement,
# one that is kept for identical requests for RESULT_CACHE_HOURS.
_RAW_DAYS = dict.fromkeys(("raw/", "images/", "thumbs/", "medium/"), 7)
_RAW_DAYS["results/"] = math.ceil(settings.RESULT_CACHE_HOURS / 24) + 1
_PLANNED = ("keep_days", "old_version_days", "replica", "role", "archive_class")


def _prepare(name: str, plan: BucketPlan) -> list[BucketSetting]:
    from storage.s3 import S3Driver

    driver = S3Driver(storages[name])
    try:
        return prepare_bucket(driver.client, driver.bucket, plan)
    except (ClientError, BotoCoreError) as error:
        raise CommandError(f"{driver.bucket}: {error}") from error


class Command(BaseCommand):
    help = "Create the buckets of the settings; set versions, lifecycle and replication, if the store has them."

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
        plans = {}
        if settings.IMAGE_STORE == "s3" or settings.LORA_STORE == "s3":
            plans["loras"] = BucketPlan(**{name: options[name] for name in _PLANNED})
        if settings.RAW_STORE == "s3":
            plans["raw"] = BucketPlan(keep_days=0, old_version_days=1, versions=False, expire=_RAW_DAYS)
        if not plans:
            raise CommandError("None of IMAGE_STORE, RAW_STORE and LORA_STORE is s3: there is no bucket.")
        outcomes = [outcome for name, plan in plans.items() for outcome in _prepare(name, plan)]
        for outcome in outcomes:
            self.stdout.write(f"{outcome.what}: {outcome.state} {outcome.detail}".rstrip())
        if any(outcome.state == "refused" for outcome in outcomes):
            raise CommandError("The store refused a setting.")

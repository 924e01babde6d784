"""What is set once on a bucket: versions, lifecycle, replication. Stores that lack one of these say so and are left
without it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from storage.keys import VARIANT_SIDES


@dataclass(frozen=True)
class BucketPlan:
    """`keep_days`: days until everything is deleted, 0 never; `old_version_days`: days that a replaced or deleted
    version is kept; `replica` and `role`: ARNs of the other region's bucket and of the role that copies, empty for
    none; `archive_class`: storage class that what lies below `archive/` gets, empty for none. From GLACIER and
    DEEP_ARCHIVE an image comes back after hours, from the others within a minute."""

    keep_days: int = 0
    old_version_days: int = 30
    replica: str = ""
    role: str = ""
    archive_class: str = ""


@dataclass(frozen=True)
class Outcome:
    """`state`: "set", "kept" (was so already), "unsupported" (the store has no such thing) or "refused" (it has, and
    said no).
    """

    what: str
    state: str
    detail: str = ""


_UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "MalformedXML", "XNotImplemented", "501", "405"}


def prepare_bucket(client: Any, bucket: str, plan: BucketPlan) -> list[Outcome]:
    """Make the bucket where it is missing and set what `plan` asks for. May be repeated. Raises ClientError without
    access.
    """
    outcomes = [_make(client, bucket)]
    outcomes.append(
        _try(
            "versions",
            lambda: client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}),
        )
    )
    rules = {"Rules": _rules(plan)}
    outcomes.append(
        _try(
            "lifecycle", lambda: client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rules)
        )
    )
    if plan.replica:
        copies = {"Role": plan.role, "Rules": [_replication(plan)]}
        outcomes.append(
            _try("replication", lambda: client.put_bucket_replication(Bucket=bucket, ReplicationConfiguration=copies))
        )
    return outcomes


def _make(client: Any, bucket: str) -> Outcome:
    try:
        client.head_bucket(Bucket=bucket)
        return Outcome("bucket", "kept")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
    region = client.meta.region_name
    place = {} if region in (None, "us-east-1") else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    client.create_bucket(Bucket=bucket, **place)
    return Outcome("bucket", "set")


def _rules(plan: BucketPlan) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = [
        {
            "ID": "unfinished-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
            "NoncurrentVersionExpiration": {"NoncurrentDays": plan.old_version_days},
        }
    ]
    if plan.archive_class:
        rules.append(
            {
                "ID": "archive-class",
                "Status": "Enabled",
                "Filter": {"Prefix": "archive/"},
                "Transitions": [{"Days": 1, "StorageClass": plan.archive_class}],
            }
        )
    if plan.keep_days:
        # A few days later than the product's own clean-up, which deletes rows and objects together.
        rules += [
            {
                "ID": f"end-of-{kind}",
                "Status": "Enabled",
                "Filter": {"Prefix": f"{kind}/"},
                "Expiration": {"Days": plan.keep_days + 7},
            }
            for kind in ("images", "inputs", "archive", *VARIANT_SIDES)
        ]
    return rules


def _replication(plan: BucketPlan) -> dict[str, Any]:
    return {
        "ID": "other-region",
        "Status": "Enabled",
        "Priority": 1,
        "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Disabled"},
        "Destination": {"Bucket": plan.replica},
    }


def _try(what: str, call: Callable[[], object]) -> Outcome:
    try:
        call()
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        state = "unsupported" if code in _UNSUPPORTED or status in (405, 501) else "refused"
        return Outcome(what, state, str(error))
    return Outcome(what, "set")

"""Creates and configures a bucket: versions, lifecycle, replication, as far as the store supports them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from storage.keys import VARIANT_SIDES


@dataclass(frozen=True)
class BucketPlan:
    """`keep_days`: days until everything is deleted, 0: never. `old_version_days`: days that a replaced or deleted
    version is kept. `replica`, `role`: ARNs of the other region's bucket and of the role that replicates; empty: none.
    `archive_class`: storage class of objects below `archive/`; empty: none. Images return from GLACIER and DEEP_ARCHIVE
    after hours, from other classes within a minute.
    """

    keep_days: int = 0
    old_version_days: int = 30
    replica: str = ""
    role: str = ""
    archive_class: str = ""
    versions: bool = True
    expire: Mapping[str, int] = field(default_factory=dict)  # days until what lies below a prefix is deleted


@dataclass(frozen=True)
class BucketSetting:
    """`state`: "set", "kept" (was set before), "unsupported" (by the store) or "refused"."""

    what: str
    state: str
    detail: str = ""


_UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "MalformedXML", "XNotImplemented", "501", "405"}


def prepare_bucket(client: Any, bucket: str, plan: BucketPlan) -> list[BucketSetting]:
    """Create the bucket if it is missing and apply `plan`. May be repeated. Raises ClientError without access."""
    settings = [_create(client, bucket)]
    if plan.versions:
        settings.append(
            _try(
                "versions",
                lambda: client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}),
            )
        )
    rules = {"Rules": _rules(plan)}
    settings.append(
        _try(
            "lifecycle", lambda: client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rules)
        )
    )
    if plan.replica:
        copies = {"Role": plan.role, "Rules": [_replication(plan)]}
        settings.append(
            _try("replication", lambda: client.put_bucket_replication(Bucket=bucket, ReplicationConfiguration=copies))
        )
    return settings


def _create(client: Any, bucket: str) -> BucketSetting:
    try:
        client.head_bucket(Bucket=bucket)
        return BucketSetting("bucket", "kept")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
    region = client.meta.region_name
    place = {} if region in (None, "us-east-1") else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    client.create_bucket(Bucket=bucket, **place)
    return BucketSetting("bucket", "set")


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
    rules += [
        {
            "ID": f"end-of-{prefix.strip('/')}",
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            "Expiration": {"Days": days},
        }
        for prefix, days in plan.expire.items()
    ]
    if plan.keep_days:
        # A few days after the product's own retention, which deletes rows and objects together.
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


def _try(what: str, call: Callable[[], object]) -> BucketSetting:
    try:
        call()
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        state = "unsupported" if code in _UNSUPPORTED or status in (405, 501) else "refused"
        return BucketSetting(what, state, str(error))
    return BucketSetting(what, "set")

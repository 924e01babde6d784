"""Tests against a real S3 server. They take a minute and install a server, so they run when TEST_S3 is set (`make
test-s3`).
"""

import os

import pytest

from storage.bucket import BucketPlan, prepare_bucket
from storage.store import SpooledStore, images
from storage.tests.s3 import swift
from storage.tests.s3.fault_proxy import fault_proxy

collect_ignore_glob = [] if os.environ.get("TEST_S3") else ["test_*.py"]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with swift.running(tmp_path_factory.mktemp("swift")) as running:
        yield running


@pytest.fixture
def proxy(server):
    with fault_proxy(server.port) as running:
        yield running


@pytest.fixture
def store(settings, stores_on_disk, proxy, request) -> SpooledStore:
    """The images store on the S3 server, through the proxy, in a bucket of the test's own."""
    bucket = "test-" + "".join(sign if sign.isalnum() else "-" for sign in request.node.name.lower())[:50].strip("-")
    settings.IMAGE_STORE = "s3"
    settings.STORAGES = {
        **settings.STORAGES,
        "images": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "bucket_name": bucket,
                "endpoint_url": proxy.endpoint,
                "region_name": swift.REGION,
                "access_key": swift.ACCESS_KEY,
                "secret_key": swift.SECRET_KEY,
                "addressing_style": "path",
                "signature_version": "s3v4",
                "file_overwrite": True,
                "default_acl": None,
            },
        },
    }
    made = images()
    prepare_bucket(made.driver.client, bucket, BucketPlan())  # type: ignore[attr-defined]
    return made

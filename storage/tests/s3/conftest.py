"""Tests against real S3 servers. They take minutes and install the servers, so they run when TEST_S3 is set (`make
test-s3`): OpenStack Swift everywhere, Ceph where Debian's packages can be had, moto for what neither has.
"""

import os

import pytest

from storage.bucket import BucketPlan, prepare_bucket
from storage.store import SpooledStore, images
from storage.tests.s3 import ceph, swift
from storage.tests.s3.fault_proxy import fault_proxy

collect_ignore_glob = [] if os.environ.get("TEST_S3") else ["test_*.py"]


SERVERS = {"swift": swift.running} | ({"ceph": ceph.running} if ceph.available() else {})


@pytest.fixture(scope="session", params=SERVERS)
def server(request, tmp_path_factory):
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture
def of_ceph(server):
    """For what Swift has not."""
    if server.name != "ceph":
        pytest.skip("Swift has no lifecycle rules")


@pytest.fixture
def proxy(server):
    with fault_proxy(server.port) as running:
        yield running


@pytest.fixture
def store(settings, stores_on_disk, server, proxy, request) -> SpooledStore:
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
                "region_name": server.region,
                "access_key": server.access_key,
                "secret_key": server.secret_key,
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

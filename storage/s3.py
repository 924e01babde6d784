"""S3 and what speaks its language (MinIO, OSS, Ceph, Swift), below django-storages' S3Storage."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from django.core.files.storage import Storage

from storage.drivers import Listed, PlainDriver
from storage.errors import NotFound, StoreUnavailable, VerifyFailed

MULTIPART_FROM = 10 << 20  # bytes
_TRANSFER = TransferConfig(multipart_threshold=MULTIPART_FROM, multipart_chunksize=8 << 20, max_concurrency=4)
# Retries are the spool's business: the client itself fails fast, so that three tries end within seconds of an outage.
_CLIENT = Config(
    connect_timeout=3,
    read_timeout=20,
    retries={"total_max_attempts": 1},
    # Newer checksum headers are refused by many stores that speak S3; `prove` compares hashes itself.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


class S3Driver(PlainDriver):
    def __init__(self, backend: Storage) -> None:
        super().__init__(backend)
        backend.client_config = backend.client_config.merge(_CLIENT)  # type: ignore[attr-defined]
        backend.transfer_config = _TRANSFER  # type: ignore[attr-defined]

    @property
    def client(self):  # type: ignore[no-untyped-def]
        """The thread's boto3 client."""
        return self._backend.connection.meta.client  # type: ignore[attr-defined]

    @property
    def bucket(self) -> str:
        return self._backend.bucket_name  # type: ignore[attr-defined]

    def write(self, key: str, data: bytes, content_type: str) -> None:
        with _translated(key):
            super().write(key, data, content_type)

    def prove(self, key: str, data: bytes) -> None:
        """One HEAD where the store's ETag is the MD5 of the bytes (single part, no KMS); the bytes themselves are
        read back elsewhere.
        """
        with _translated(key):
            head = self.client.head_object(Bucket=self.bucket, Key=key)
        if head["ContentLength"] != len(data):
            raise VerifyFailed(f"{key!r}: {head['ContentLength']} bytes are stored, {len(data)} were sent.")
        if head["ETag"].strip('"') != hashlib.md5(data, usedforsecurity=False).hexdigest():
            super().prove(key, data)

    def open(self, key: str) -> BinaryIO:
        with _translated(key):
            body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"]
        return cast(BinaryIO, _Body(key, body))

    def size(self, key: str) -> int:
        with _translated(key):
            return self.client.head_object(Bucket=self.bucket, Key=key)["ContentLength"]

    def delete(self, key: str) -> None:
        with _translated(key):
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def url(self, key: str, seconds: int) -> str:
        return self._backend.url(key, expire=seconds)  # type: ignore[call-arg]

    def list(self, prefix: str) -> Iterator[Listed]:
        with _translated(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            for page in pages:
                for found in page.get("Contents", ()):
                    yield Listed(found["Key"], found["Size"], found["LastModified"])


class _Body:
    """An answer's body as a file whose read errors are ours. Memory: what is asked for with `read(n)`."""

    def __init__(self, key: str, body) -> None:  # type: ignore[no-untyped-def]
        self._key = key
        self._body = body

    def read(self, size: int = -1) -> bytes:
        with _translated(self._key):
            return self._body.read(None if size < 0 else size)

    def readinto(self, buffer: memoryview) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._body.close()

    def __enter__(self) -> "_Body":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404 and _names_the_key(error):
            raise NotFound(key) from error
        raise StoreUnavailable(f"{key!r}: {error}") from error
    except (BotoCoreError, HTTPClientError, OSError) as error:
        raise StoreUnavailable(f"{key!r}: {error}") from error


def _names_the_key(error: ClientError) -> bool:
    """A missing bucket is an outage to us, not a missing picture. HEAD answers carry no body, so "404" alone counts
    as the key.
    """
    return error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey", "NotFound")

"""S3 and compatible stores (MinIO, OSS, Ceph, Swift), through django-storages' S3Storage."""

import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from storage.drivers import Listed, PlainDriver
from storage.errors import NeedsRestore, ObjectNotFound, StoreUnavailable, VerifyFailed

MULTIPART_FROM = 10 << 20  # bytes
_TRANSFER = TransferConfig(multipart_threshold=MULTIPART_FROM, multipart_chunksize=8 << 20, max_concurrency=4)
# The store retries and the spool takes over: the client fails fast, so that three tries end within seconds.
_CLIENT = Config(
    connect_timeout=3,
    read_timeout=20,
    max_pool_connections=32,
    retries={"total_max_attempts": 1},
    # Many compatible stores refuse the newer checksum headers; `prove` compares hashes itself.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
# The longest usual time of a restore, from Amazon's documentation; archive classes of other stores count as GLACIER.
_RESTORE_TAKES = {
    "Expedited": timedelta(minutes=5),
    "Standard": timedelta(hours=5),
    "Bulk": timedelta(hours=12),
}
_DEEP_RESTORE_TAKES = {"Standard": timedelta(hours=12), "Bulk": timedelta(hours=48)}  # of DEEP_ARCHIVE
_RESTORED_DAYS = 2  # that a restored copy stays readable; housekeeping moves it within minutes
_ARCHIVED_CODES = ("InvalidObjectState", "ObjectNotInActiveTierError")  # answers to reading, to copying

_client_lock = threading.Lock()


class S3Driver(PlainDriver):
    """Uses the settings of the S3Storage, and one client for all threads: S3Storage itself creates a session per
    thread, which takes longer than a small upload (docs/decisions/0006).
    """

    _backend: Any

    def __init__(self, backend: Any, restore_tier: str = "Standard") -> None:
        super().__init__(backend)
        self._tier = restore_tier

    @property
    def client(self) -> Any:
        """The boto3 client (thread-safe), stored on the S3Storage."""
        backend = self._backend
        with _client_lock:
            if not hasattr(backend, "shared_client"):
                backend.shared_client = backend._create_session().client(
                    "s3",
                    region_name=backend.region_name,
                    use_ssl=backend.use_ssl,
                    endpoint_url=backend.endpoint_url,
                    config=backend.client_config.merge(_CLIENT),
                    verify=backend.verify,
                )
        return backend.shared_client

    @property
    def bucket(self) -> str:
        return self._backend.bucket_name

    def write(self, key: str, data: bytes, content_type: str) -> None:
        options = {"ContentType": content_type, **self._options(key)}
        with _translated(key):
            if len(data) < MULTIPART_FROM:
                self.client.put_object(**self._at(key), Body=data, **options)
            else:
                place = self._at(key)
                self.client.upload_fileobj(
                    io.BytesIO(data), place["Bucket"], place["Key"], ExtraArgs=options, Config=_TRANSFER
                )

    def upload(self, path: Path, key: str) -> None:
        """A file of any size, in parts, without reading it into memory. Raises StoreUnavailable."""
        place = self._at(key)
        with _translated(key):
            self.client.upload_file(
                str(path), place["Bucket"], place["Key"], ExtraArgs=self._options(key), Config=_TRANSFER
            )
            stored = self.client.head_object(**place)["ContentLength"]
        if stored != path.stat().st_size:
            raise VerifyFailed(f"{key!r}: {stored} bytes are stored, {path.stat().st_size} were sent.")

    def download(self, key: str, path: Path) -> None:
        """Raises StoreUnavailable, ObjectNotFound."""
        place = self._at(key)
        with _translated(key):
            self.client.download_file(place["Bucket"], place["Key"], str(path), Config=_TRANSFER)

    def prove(self, key: str, data: bytes) -> None:
        """By one HEAD if the store's ETag is the MD5 of the bytes (single part, no KMS); otherwise the bytes are read
        back.
        """
        with _translated(key):
            head = self.client.head_object(**self._at(key))
        if head["ContentLength"] != len(data):
            raise VerifyFailed(f"{key!r}: {head['ContentLength']} bytes are stored, {len(data)} were sent.")
        if head["ETag"].strip('"') != hashlib.md5(data, usedforsecurity=False).hexdigest():
            super().prove(key, data)

    def copy(self, source: str, target: str, content_type: str) -> None:
        """Within the store if its ETags are hashes of the bytes; otherwise (multipart, KMS) by reading and writing."""
        if not self._copy_within(source, target):
            super().copy(source, target, content_type)

    def _copy_within(self, source: str, target: str) -> bool:
        """Whether the store has copied the object and reports the same size and MD5 for both."""
        with _translated(source):
            head = self.client.head_object(**self._at(source))
            if "-" in head["ETag"]:  # multipart: the copy has another ETag
                return False
            self.client.copy_object(**self._at(target), CopySource=self._at(source), **self._options(target))
        with _translated(target):
            copy = self.client.head_object(**self._at(target))
        return (copy["ETag"], copy["ContentLength"]) == (head["ETag"], head["ContentLength"])

    def restore(self, key: str) -> timedelta | None:
        """Each request is charged for, so a restore that HEAD reports as running is not requested again."""
        with _translated(key):
            try:
                self.client.get_object(**self._at(key), Range="bytes=0-0")["Body"].close()
                return None
            except ClientError as error:
                if _code(error) not in _ARCHIVED_CODES:
                    raise
            head = self.client.head_object(**self._at(key))
            takes = _DEEP_RESTORE_TAKES if head.get("StorageClass") == "DEEP_ARCHIVE" else _RESTORE_TAKES
            tier = self._tier if self._tier in takes else "Standard"
            if 'ongoing-request="true"' not in head.get("Restore", ""):
                request = {"Days": _RESTORED_DAYS, "GlacierJobParameters": {"Tier": tier}}
                self._request_restore(key, request)
        return takes[tier]

    def _request_restore(self, key: str, request: dict[str, Any]) -> None:
        try:
            self.client.restore_object(**self._at(key), RestoreRequest=request)
        except ClientError as error:
            if _code(error) != "RestoreAlreadyInProgress":  # requested by another process since the HEAD
                raise

    def open(self, key: str) -> BinaryIO:
        with _translated(key):
            body = self.client.get_object(**self._at(key))["Body"]
        return cast(BinaryIO, _Body(key, body))

    def size(self, key: str) -> int:
        with _translated(key):
            return self.client.head_object(**self._at(key))["ContentLength"]

    def delete(self, key: str) -> None:
        with _translated(key):
            self.client.delete_object(**self._at(key))

    def url(self, key: str, seconds: int) -> str:
        if self._backend.custom_domain:  # a CDN in front, with its own signatures
            return self._backend.url(key, expire=seconds)
        return self.client.generate_presigned_url("get_object", Params=self._at(key), ExpiresIn=seconds)

    def list(self, prefix: str) -> Iterator[Listed]:
        place = self._at(prefix)
        added = len(place["Key"]) - len(prefix)
        with _translated(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=place["Key"])
            for page in pages:
                for found in page.get("Contents", ()):
                    yield Listed(found["Key"][added:], found["Size"], found["LastModified"])

    def _options(self, key: str) -> dict[str, Any]:
        """Options of the settings for every new object."""
        options = dict(self._backend.get_object_parameters(key))
        if self._backend.default_acl:
            options["ACL"] = self._backend.default_acl
        return options

    def _at(self, key: str) -> dict[str, str]:
        """Bucket and name of an object, below the storage's `location`."""
        location = self._backend.location.strip("/")
        return {"Bucket": self.bucket, "Key": f"{location}/{key}" if location else key}


class _Body:
    """A response body as a file that raises the errors of storage/errors.py. Memory: `n` bytes for `read(n)`."""

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
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404 and _is_missing_key(error):
            raise ObjectNotFound(key) from error
        if _code(error) in _ARCHIVED_CODES:
            raise NeedsRestore(key) from error
        raise StoreUnavailable(f"{key!r}: {error}") from error
    except (BotoCoreError, HTTPClientError, OSError) as error:
        raise StoreUnavailable(f"{key!r}: {error}") from error


def _is_missing_key(error: ClientError) -> bool:
    """Whether the key is missing, and not the bucket, which is an outage. HEAD answers have no body: "404" alone counts
    as the key.
    """
    return _code(error) in ("404", "NoSuchKey", "NotFound")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))

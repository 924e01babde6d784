from django.core.files.storage import FileSystemStorage, Storage

from storage.drivers import DiskDriver, Driver, PlainDriver


def driver_for(backend: Storage, restore_tier: str = "Standard") -> Driver:
    """`restore_tier`: how fast, and at what price, S3 restores from an archive class."""
    if isinstance(backend, FileSystemStorage):
        return DiskDriver(backend)
    if type(backend).__module__ == "storages.backends.s3":
        from storage.s3 import S3Driver  # boto3 only where it is used

        return S3Driver(backend, restore_tier)
    return PlainDriver(backend)

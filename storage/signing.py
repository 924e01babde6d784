"""Expiring signatures for URLs that this server answers itself (stores on local disk, and the spool).

A URL carries `expires` (POSIX seconds) and `signature`, an HMAC-SHA256 over path and expiry under a key derived from
SECRET_KEY. S3 stores sign their own URLs. Keys in SECRET_KEY_FALLBACKS still verify, so that a rotation does not
break issued links. drivers.signed_path makes such a URL, views.py answers it.
"""

import re
import time
from urllib.parse import urlencode

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

_SALT = "storage.signing"
_EXPIRES = re.compile(
    r"[1-9][0-9]{0,11}"
)  # the one way to write it: no zeros before, no other digits, no endless number


def sign(path: str, expires: int) -> str:
    """Signature of `path` (any string that the verifier knows), valid until `expires` (POSIX seconds)."""
    return _sign(path, expires, settings.SECRET_KEY)


def verify(path: str, expires: int | str, signature: str, now: float | None = None) -> bool:
    """Whether the signature belongs to path and expiry and has not expired. Compares in constant time."""
    if not _EXPIRES.fullmatch(str(expires)) or not signature.isascii():
        return False
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    genuine = [constant_time_compare(_sign(path, int(expires), secret), signature) for secret in secrets]
    return any(genuine) and int(expires) >= (time.time() if now is None else now)


def signed_query(path: str, seconds: int) -> str:
    """The query string that makes `path` readable for `seconds` from now."""
    expires = int(time.time()) + seconds
    return urlencode({"expires": expires, "signature": sign(path, expires)})


def _sign(path: str, expires: int, secret: str) -> str:
    return salted_hmac(_SALT, f"{expires}:{path}", secret=secret, algorithm="sha256").hexdigest()

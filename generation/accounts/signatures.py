"""Signed requests: proof that the sender has the key's secret, without sending it, and that nothing was altered.

    K          = SHA-256(secret), where an API key is igx_{key id}_{secret}
    canonical  = METHOD \\n path \\n query \\n timestamp \\n nonce \\n hex(SHA-256(body))
    signature  = hex(HMAC-SHA256(K, canonical))

    X-Key-Id: {key id}        X-Timestamp: Unix seconds        X-Nonce: 8 to 128 letters, digits, - and _
    X-Signature: v1={signature}

The path is percent-encoded UTF-8; the query is its parameters sorted by name and value, percent-encoded (space as %20).
A signature is valid within WINDOW_S of its timestamp, and once: its nonce is kept in Redis for that time.

Test vectors: generation/accounts/tests/vectors/signatures.json. While Redis is unreachable each process keeps
the nonces that it received, and logs a warning.
"""

import hashlib
import hmac
import logging
import re
import threading
import time
from typing import Final
from urllib.parse import parse_qsl, quote

import redis

from imagegenx_site import redis_clients
from imagegenx_site.errors import Unauthorised

WINDOW_S: Final = 300
_TIMESTAMP: Final = re.compile(r"[0-9]{1,15}")
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{8,128}")
_log = logging.getLogger(__name__)


def canonical(method: str, path: str, query: str, timestamp: str, nonce: str, body: bytes) -> bytes:
    """The text that is signed. `path` is percent-decoded, `query` as it was sent."""
    pairs = sorted(parse_qsl(query, keep_blank_values=True))
    ordered = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)
    lines = (method.upper(), quote(path, safe="/-._~"), ordered, timestamp, nonce, hashlib.sha256(body).hexdigest())
    return "\n".join(lines).encode()


def signature(digest: str, text: bytes) -> str:
    """The value of X-Signature. `digest` is hex(K), which is stored in the key's row."""
    return "v1=" + hmac.new(bytes.fromhex(digest), text, hashlib.sha256).hexdigest()


def verify(digest: str, key_id: str, text: bytes, *, given: str, timestamp: str, nonce: str) -> None:
    """Raises Unauthorised for a wrong, old or repeated signature."""
    if not _TIMESTAMP.fullmatch(timestamp) or abs(int(timestamp) - time.time()) > WINDOW_S:
        raise Unauthorised(f"X-Timestamp must be the Unix time in seconds, within {WINDOW_S} s of the server's clock.")
    if not _NONCE.fullmatch(nonce):
        raise Unauthorised("X-Nonce must be 8 to 128 letters, digits, - and _.")
    genuine = signature(digest, text).encode()
    if not any(hmac.compare_digest(genuine, part.strip().encode()) for part in given.split(",")):
        raise Unauthorised("X-Signature does not match the request. See docs/api.md, Signed requests.")
    if not _first_use(key_id, nonce):
        raise Unauthorised("This X-Nonce was used before. Make a new one for each request.")


def _quoted(text: str) -> str:
    return quote(text, safe="-._~")


def _first_use(key_id: str, nonce: str) -> bool:
    try:
        return bool(redis_clients.text_client().set(f"rl:nonce:{key_id}:{nonce}", "1", nx=True, ex=2 * WINDOW_S))
    except redis.RedisError as error:
        _log.warning("nonces are kept in this process only, Redis is unreachable: %s", error)
        return _local_nonces.first_use(f"{key_id}:{nonce}")


class _LocalNonces:
    """The nonces that this process received while Redis was unreachable."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}  # nonce: monotonic time of its use
        self._lock = threading.Lock()

    def first_use(self, name: str) -> bool:
        now = time.monotonic()
        with self._lock:
            self._used = {nonce: at for nonce, at in self._used.items() if now - at < 2 * WINDOW_S}
            if name in self._used:
                return False
            self._used[name] = now
            return True


_local_nonces = _LocalNonces()

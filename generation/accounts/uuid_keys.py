"""The UUID form of an API key, for programs that take no other keys than UUIDs, such as the AI Horde's SDK.

    K     = SHA-256(secret), where an API key is igx_{key id}_{secret}
    UUID  = key id (10 hexadecimal digits), then the first 22 digits of hex(HMAC-SHA256(K, "uuid"))

It is the same key, with its rights and its end; 88 bits of it are secret, and wrong ones are counted as wrong keys are.
"""

import hashlib
import hmac
import re
from typing import Final
from uuid import UUID

_FORM: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ID_DIGITS: Final = 10


def of(prefix: str, digest: str) -> str:
    """The UUID of a key, by its row's prefix and digest; empty for one whose id has another length."""
    if len(prefix) != _ID_DIGITS:
        return ""
    proof = hmac.new(bytes.fromhex(digest), b"uuid", hashlib.sha256).hexdigest()
    return str(UUID(prefix + proof[: 32 - _ID_DIGITS]))


def prefix_in(text: str) -> str:
    """The id of the key that a text of this form claims to be; empty for another form."""
    return text.replace("-", "")[:_ID_DIGITS] if _FORM.fullmatch(text) else ""

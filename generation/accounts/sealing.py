"""Texts that are kept encrypted under SECRET_KEY, because whoever reads the database must not have them: a key of
its own for each purpose.
"""

import base64
import functools
import hashlib

from cryptography.fernet import Fernet
from django.conf import settings


@functools.cache
def sealing(purpose: str) -> Fernet:
    """Encrypts and decrypts for one purpose. `decrypt` raises InvalidToken for what another SECRET_KEY sealed."""
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(f"{purpose}:{settings.SECRET_KEY}".encode()).digest()))

"""The second factor of a login: codes of an authenticator app (TOTP, RFC 6238: 6 digits, 30 s, SHA-1, which is what
all apps know), and ten recovery codes for who has lost it.

A code of the present step, or of the one before or after, is taken once: the row keeps the step of the last one, and
moves on by compare-and-set, so that of two requests with one code one is refused. A recovery code is struck out.
Attempts are counted in generation/admission/login.py.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pyotp
import segno
from cryptography.fernet import InvalidToken
from django.db import transaction
from django.utils import timezone

from generation.accounts.models import SecondFactor, User
from generation.accounts.sealing import sealing
from imagegenx_site.errors import Conflict

STEP_S: Final = 30
RECOVERY_CODES: Final = 10
_ISSUER: Final = "ImageGenX"
_DRIFT: Final = (0, -1, 1)  # steps that a clock may be off
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # none that are taken for another
_PURPOSE: Final = "second factor"


def is_on(user: User) -> bool:
    """Whether a login of this user needs a code."""
    return SecondFactor.objects.filter(user=user).exclude(confirmed_at=None).exists()


def begin(user: User) -> tuple[str, str]:
    """The secret of a new factor and its QR code, an address of an SVG. It counts when `confirm` has seen a code of
    it. Raises Conflict while another one counts.
    """
    secret = pyotp.random_base32()
    with _alone(user):
        if is_on(user):
            raise Conflict("The second factor is on. Switch it off first.")
        sealed = sealing(_PURPOSE).encrypt(secret.encode())
        SecondFactor.objects.update_or_create(user=user, defaults={"secret": sealed, "last_step": 0, "recovery": []})
    address = pyotp.TOTP(secret).provisioning_uri(name=user.get_username(), issuer_name=_ISSUER)
    return secret, segno.make(address).svg_data_uri(scale=4, light="#fff")


def confirm(user: User, code: str) -> list[str]:
    """The factor counts from now on; the recovery codes, which are shown once. Empty for a wrong code."""
    with _alone(user):
        if is_on(user) or not _take_code(user, _plain(code)):
            return []
        codes = [_recovery_code() for _ in range(RECOVERY_CODES)]
        digests = [_digest(_plain(code)) for code in codes]
        SecondFactor.objects.filter(user=user).update(confirmed_at=timezone.now(), recovery=digests)
    return codes


def verify(user: User, code: str) -> bool:
    """Whether it is a code of the user's app or one of the recovery codes; it is used up then."""
    text = _plain(code)
    return _take_code(user, text) or _take_recovery(user, text)


def switch_off(user: User) -> bool:
    """Logins need no code any more; whether there was a factor."""
    with _alone(user):
        return SecondFactor.objects.filter(user=user).delete()[0] > 0


def codes_left(user: User) -> int:
    """How many recovery codes were not used yet."""
    row = SecondFactor.objects.filter(user=user).first()
    return len(row.recovery) if row else 0


@contextmanager
def _alone(user: User) -> Iterator[None]:
    """One request at a time makes, confirms or ends a user's factor: what counts is the secret that was confirmed."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        yield


def _take_code(user: User, code: str) -> bool:
    row = SecondFactor.objects.filter(user=user).first()
    if row is None or not (code.isascii() and code.isdigit()):
        return False
    try:
        totp = pyotp.TOTP(sealing(_PURPOSE).decrypt(bytes(row.secret)).decode())
    except InvalidToken:  # SECRET_KEY was changed; the operator switches the factor off
        return False
    now = int(time.time()) // STEP_S
    step = next((now + off for off in _DRIFT if hmac.compare_digest(totp.generate_otp(now + off), code)), None)
    if step is None:
        return False
    return SecondFactor.objects.filter(pk=row.pk, last_step__lt=step).update(last_step=step) == 1


def _take_recovery(user: User, code: str) -> bool:
    with transaction.atomic():
        row = SecondFactor.objects.select_for_update().filter(user=user).exclude(confirmed_at=None).first()
        digest = _digest(code)
        if row is None or digest not in row.recovery:
            return False
        row.recovery = [left for left in row.recovery if left != digest]
        row.save(update_fields=["recovery"])
    return True


def _recovery_code() -> str:
    """50 random bits: too many to be guessed, few enough to be typed."""
    letters = "".join(secrets.choice(_LETTERS) for _ in range(10))
    return f"{letters[:5]}-{letters[5:]}"


def _plain(code: str) -> str:
    """A code without the signs by which people and apps part it."""
    return code.replace(" ", "").replace("-", "").casefold()


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()

"""Signed provenance: a C2PA manifest in the file states that a trained algorithm made it, and its signature shows
whether it was changed since.

The certificate chain and its key are the operator's (docs/postprocessing.md says what they must be). A manifest has the
time of signing, so the same picture signed twice gives two different files.

A time-stamping authority is asked by native code that knows no deadline. So with one the signing happens in a thread of
its own, which is left behind after TIMESTAMP_S; LEFT_BEHIND of these at most, after that none is asked until one ends.
"""

import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from postprocessing.errors import ProvenanceUnavailable
from postprocessing.metadata import source_type

TIMESTAMP_S = 15.0
LEFT_BEHIND = 4
_asking = threading.BoundedSemaphore(LEFT_BEHIND)
ALGORITHMS = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")


@dataclass(frozen=True)
class SignerConfig:
    """`certificates`: PEM file, the signing certificate first, then those that lead to the root. `key`: its private
    key, PEM, PKCS #8, without a password. `timestamps`: address of a time-stamping authority (RFC 3161), or empty.
    """

    certificates: Path
    key: Path
    algorithm: str = "es256"
    timestamps: str = ""


def sign(data: bytes, content_type: str, config: SignerConfig | None, *, edited: bool = False) -> bytes:
    """Add a signed manifest. `edited`: made from a customer's picture. Raises ProvenanceUnavailable."""
    if config is None:
        raise ProvenanceUnavailable("Signed provenance was requested, but no certificate is set (C2PA_CERTIFICATE).")
    if not config.timestamps:
        return _signed(data, content_type, config, edited)
    return _in_time(lambda: _signed(data, content_type, config, edited), config.timestamps)


def _in_time(work: Callable[[], bytes], authority: str) -> bytes:
    """What `work` gives within TIMESTAMP_S. Raises ProvenanceUnavailable."""
    if not _asking.acquire(blocking=False):
        raise ProvenanceUnavailable(f"The time-stamping authority {authority} does not answer.")
    answer: Future[bytes] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)
        finally:
            _asking.release()

    threading.Thread(target=run, name="time-stamp", daemon=True).start()
    try:
        return answer.result(TIMESTAMP_S)
    except FutureTimeout as error:
        raise ProvenanceUnavailable(f"The time-stamping authority {authority} did not answer in time.") from error


def _signed(data: bytes, content_type: str, config: SignerConfig, edited: bool) -> bytes:
    import c2pa  # 30 MB of native code: loaded only to sign

    try:
        chain, key = config.certificates.read_bytes(), config.key.read_bytes()
        names = (config.algorithm, chain, key, config.timestamps or None)
        signed = io.BytesIO()
        with (
            c2pa.Signer.from_info(c2pa.C2paSignerInfo(*names)) as signer,
            c2pa.Context(_settings()) as context,
            c2pa.Builder(_manifest(edited), context=context) as builder,
        ):
            builder.sign(signer, content_type, io.BytesIO(data), signed)
    except (c2pa.C2paError, OSError) as error:
        raise ProvenanceUnavailable(
            f"The file could not be signed with {config.certificates} and {config.key}: {error}"
        ) from error
    return signed.getvalue()


def _manifest(edited: bool) -> str:
    action = {
        "action": "c2pa.created",
        "digitalSourceType": source_type(edited),
        "softwareAgent": {"name": "ImageGenX"},
    }
    claims = [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}]
    return json.dumps({"claim_generator_info": [{"name": "ImageGenX"}], "assertions": claims})


@lru_cache(maxsize=1)
def _settings():  # type: ignore[no-untyped-def]  # c2pa is imported on use
    import c2pa

    # By default a manifest contains a thumbnail, many times as large as the file.
    return c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}})

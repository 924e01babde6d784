"""Idempotency keys: the same key, route and body again answer what the first request made.

What makes tasks keeps their id, and a repeat answers the task as it is now (`first`, `save`). Everything else keeps its
answer for the day that the key lives (`answer`): encrypted under SECRET_KEY, because new API keys and signing secrets
are in such answers and stand nowhere else.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, connection, transaction

from generation.accounts.models import ApiKey
from generation.accounts.sealing import sealing
from generation.tasks.models import Batch, IdempotencyKey, Task
from imagegenx_site.errors import ApiError, Conflict, Unprocessable

_PURPOSE = "idempotent answers"


@dataclass(frozen=True)
class Idempotency:
    """The client's key for one request on one route, and the fingerprint of the body it was sent with."""

    api_key: ApiKey
    key: str
    route: str
    fingerprint: str

    @classmethod
    def of(cls, api_key: ApiKey, key: str, route: str, body: Mapping[str, Any]) -> Self:
        """The fingerprint is SHA-256 of the body in canonical JSON, an uploaded file standing as its own SHA-256."""
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_file_hash)
        return cls(api_key, key, route, hashlib.sha256(canonical.encode()).hexdigest())

    def first(self) -> tuple[tuple[Task, ...], Batch | None] | None:
        """The tasks and the batch of the first request with this key; None when there was none. Raises Unprocessable
        when it had another body, Conflict while it is under way.
        """
        row = self._row()
        if row is None or row.task_id is None:
            return None
        batch = Batch.objects.filter(pk=row.task_id).first()
        tasks = Task.objects.filter(batch=batch) if batch else Task.objects.filter(pk=row.task_id)
        found = tuple(tasks.order_by("id"))
        if not found:
            raise _under_way()
        return found, batch

    def save(self, made: UUID) -> None:
        """Bind the key to the task or batch that the request made. Raises IntegrityError when another was first."""
        IdempotencyKey.objects.create(
            api_key=self.api_key, key=self.key, route=self.route, fingerprint=self.fingerprint, task_id=made
        )

    def answer(self, make: Callable[[], tuple[int, Any]]) -> tuple[int, Any, bool]:
        """Status and body of `make`'s answer, or of the first request's with this key; and whether it is new.

        `make` runs in the transaction that binds the key. A second request meanwhile is refused, as it would hold its
        thread until the end of an upload. A refusal leaves the key unused, and what it wrote (the policy's record of
        it) stays. Raises Unprocessable, Conflict while the first is under way, and what `make` raises.
        """
        if kept := self._kept():
            return *kept, False
        refusal = None
        try:
            with transaction.atomic():
                self._take_lock()
                row = IdempotencyKey.objects.create(
                    api_key=self.api_key, key=self.key, route=self.route, fingerprint=self.fingerprint
                )
                try:
                    status, body = make()
                except ApiError as error:
                    row.delete()
                    refusal = error
                else:
                    row.answer = sealing(_PURPOSE).encrypt(json.dumps([status, body]).encode())
                    row.save(update_fields=["answer"])
            if refusal is not None:
                raise refusal
            return status, body, True
        except IntegrityError:  # the first has ended since this one looked
            if kept := self._kept():
                return *kept, False
            raise

    def _kept(self) -> tuple[int, Any] | None:
        """Status and body of the answer to the first request; None while there is none. Raises Unprocessable."""
        row = self._row()
        if row is None or row.answer is None:
            return None
        status, body = json.loads(sealing(_PURPOSE).decrypt(bytes(row.answer)))
        return status, body

    def _take_lock(self) -> None:
        """Until the end of the transaction. Raises Conflict when another request has it."""
        name = f"idempotency:{self.api_key.pk}:{self.route}:{self.key}".encode()
        number = int.from_bytes(hashlib.sha256(name).digest()[:8], "big", signed=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [number])
            if not cursor.fetchone()[0]:
                raise _under_way()

    def _row(self) -> IdempotencyKey | None:
        """What the key was used for before. Raises Unprocessable when that was another body."""
        row = IdempotencyKey.objects.filter(api_key=self.api_key, route=self.route, key=self.key).first()
        if row is not None and row.fingerprint != self.fingerprint:
            raise Unprocessable(
                "This Idempotency-Key was used for another request body. Use a new key for a new request."
            )
        return row


def _under_way() -> Conflict:
    message = "The first request with this Idempotency-Key is still under way. Try again in a second."
    return Conflict(message, retry_after=1)


def _file_hash(file: UploadedFile) -> str:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return digest

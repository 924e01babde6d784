"""What there is to ask for, and the caller's account; the part of the client that makes no pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagegenx import calls
from imagegenx.bodies import Endpoint, Key, Lora, Model, Style, Usage
from imagegenx.connection import Connection
from imagegenx.parameters import Picture


class Catalogue:
    """Base of Client."""

    _connection: Connection

    def models(self) -> tuple[Model, ...]:
        """The enabled models; the first that can do a kind is its default."""
        return self._connection.send(calls.models())

    def styles(self) -> tuple[Style, ...]:
        """The enabled styles."""
        return self._connection.send(calls.styles())

    def plans(self) -> Mapping[str, Any]:
        """Every plan under `items`; `current` is the name of the one that binds this key."""
        return self._connection.send(calls.plans())

    def usage(self, since: str | None = None, until: str | None = None, group_by: str = "day") -> Usage:
        """Tasks, pictures and megapixel-steps; by day, model, kind or key."""
        return self._connection.send(calls.usage(since, until, group_by))

    def loras(self) -> tuple[Lora, ...]:
        """Every version of every LoRA, the newest of a name first."""
        return self._connection.send(calls.loras())

    def upload_lora(self, file: Picture, name: str, base_family: str = "sd15") -> Lora:
        """A new version of a name, from a .safetensors file."""
        return self._connection.send(calls.upload_lora(file, name, base_family))

    def enable_lora(self, name: str, version: int, enabled: bool = True) -> Lora:
        """Offer a version again, or no longer."""
        return self._connection.send(calls.enable_lora(name, version, enabled))

    def delete_lora(self, name: str, version: int) -> None:
        """Delete a version; tasks that name it already still use it."""
        self._connection.send(calls.delete_lora(name, version))

    def keys(self) -> tuple[Key, ...]:
        """Every key of the user, without its text."""
        return self._connection.send(calls.keys())

    def create_key(
        self, name: str = "key", scopes: Sequence[str] | None = None, expires_in_days: int | None = None
    ) -> Key:
        """A new key; its text is in the answer and nowhere else. What is left out is as this key has it."""
        return self._connection.send(calls.create_key(name, scopes, expires_in_days))

    def rotate_key(self, prefix: str, grace_seconds: int = 3600) -> Key:
        """A key of the same kind; the old one works for `grace_seconds` more."""
        return self._connection.send(calls.rotate_key(prefix, grace_seconds))

    def revoke_key(self, prefix: str) -> Key:
        """End a key at once."""
        return self._connection.send(calls.revoke_key(prefix))

    def webhooks(self) -> tuple[Endpoint, ...]:
        """The addresses that get events."""
        return self._connection.send(calls.webhooks())

    def create_webhook(self, url: str, events: Sequence[str] = ()) -> Endpoint:
        """An address that gets events (all, or those named); `secret` signs them: see verify_webhook."""
        return self._connection.send(calls.create_webhook(url, events))

    def delete_webhook(self, endpoint_id: int) -> None:
        """Send it nothing more."""
        self._connection.send(calls.delete_webhook(endpoint_id))

"""The methods of catalogue.py, which says what each does, with `await`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagegenx import calls
from imagegenx.async_connection import AsyncConnection
from imagegenx.bodies import Endpoint, Key, Lora, Model, Style, Usage
from imagegenx.parameters import Picture


class AsyncCatalogue:
    """Base of AsyncClient."""

    _connection: AsyncConnection

    async def models(self) -> tuple[Model, ...]:
        return await self._connection.send(calls.models())

    async def styles(self) -> tuple[Style, ...]:
        return await self._connection.send(calls.styles())

    async def plans(self) -> Mapping[str, Any]:
        return await self._connection.send(calls.plans())

    async def usage(self, since: str | None = None, until: str | None = None, group_by: str = "day") -> Usage:
        return await self._connection.send(calls.usage(since, until, group_by))

    async def loras(self) -> tuple[Lora, ...]:
        return await self._connection.send(calls.loras())

    async def upload_lora(self, file: Picture, name: str, base_family: str = "sd15") -> Lora:
        return await self._connection.send(calls.upload_lora(file, name, base_family))

    async def enable_lora(self, name: str, version: int, enabled: bool = True) -> Lora:
        return await self._connection.send(calls.enable_lora(name, version, enabled))

    async def delete_lora(self, name: str, version: int) -> None:
        await self._connection.send(calls.delete_lora(name, version))

    async def keys(self) -> tuple[Key, ...]:
        return await self._connection.send(calls.keys())

    async def create_key(
        self, name: str = "key", scopes: Sequence[str] | None = None, expires_in_days: int | None = None
    ) -> Key:
        return await self._connection.send(calls.create_key(name, scopes, expires_in_days))

    async def rotate_key(self, prefix: str, grace_seconds: int = 3600) -> Key:
        return await self._connection.send(calls.rotate_key(prefix, grace_seconds))

    async def revoke_key(self, prefix: str) -> Key:
        return await self._connection.send(calls.revoke_key(prefix))

    async def webhooks(self) -> tuple[Endpoint, ...]:
        return await self._connection.send(calls.webhooks())

    async def create_webhook(self, url: str, events: Sequence[str] = ()) -> Endpoint:
        return await self._connection.send(calls.create_webhook(url, events))

    async def delete_webhook(self, endpoint_id: int) -> None:
        await self._connection.send(calls.delete_webhook(endpoint_id))

"""Every request of the API as a value: how it is sent, whether it may be sent again, and how its answer is read.

Both clients send these; nothing here touches the network.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from imagegenx.bodies import Batch, Endpoint, Key, Lora, Model, Page, Price, Style, Task, Usage, read, read_items
from imagegenx.parameters import BESIDE_PARAMS, Picture
from imagegenx.pictures import FilePart, picture_part

API = "/api/v1"
T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """`read` makes the result of the answer's `data`. `repeatable`: sent twice it does no more than once."""

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FilePart] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True

    def arguments(self) -> dict[str, Any]:
        """For httpx."""
        found: dict[str, Any] = {"method": self.method, "url": API + self.path, "headers": dict(self.headers)}
        if self.query:
            found["params"] = dict(self.query)
        if self.files:
            parts = {name: (part.name, part.content, part.content_type) for name, part in self.files.items()}
            return {**found, "data": dict(self.form), "files": parts}
        return {**found, "json": self.json} if self.json is not None else found


def submission(
    path: str, read_as: Callable[[Any], T], fields: Mapping[str, Any], pictures: Mapping[str, Picture | None]
) -> Call[T]:
    """A request that makes tasks. It gets an Idempotency-Key, so that it may be sent again."""
    rest = {name: value for name, value in fields.items() if value is not None}
    headers = {"Idempotency-Key": f'"{rest.pop("idempotency_key", None) or uuid.uuid4().hex}"'}
    if rest.get("prefer_wait"):
        headers["Prefer"] = f"wait={rest.pop('prefer_wait')}"
    body = {name: rest.pop(name) for name in ("text", "texts", *BESIDE_PARAMS) if name in rest}
    if rest:
        body["params"] = rest
    parts = {name: picture_part(picture) for name, picture in pictures.items() if picture is not None}
    files = {name: part for name, part in parts.items() if isinstance(part, FilePart)}
    body.update({name: part for name, part in parts.items() if isinstance(part, str)})
    if not files:
        return Call("POST", f"/image/{path}", read_as, json=body, headers=headers)
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in body.items()}
    return Call("POST", f"/image/{path}", read_as, form=form, files=files, headers=headers)


def generate(text: str, fields: Mapping[str, Any]) -> Call[Task]:
    return submission("generate", task_of, {"text": text, **fields}, {})


def img2img(text: str, image: Picture, fields: Mapping[str, Any]) -> Call[Task]:
    return submission("img2img", task_of, {"text": text, **fields}, {"image": image})


def inpaint(text: str, image: Picture, mask: Picture | None, fields: Mapping[str, Any]) -> Call[Task]:
    return submission("inpaint", task_of, {"text": text, **fields}, {"image": image, "mask": mask})


def controlnet(
    text: str, control_image: Picture, image: Picture | None, mask: Picture | None, fields: Mapping[str, Any]
) -> Call[Task]:
    pictures = {"control_image": control_image, "image": image, "mask": mask}
    return submission("controlnet", task_of, {"text": text, **fields}, pictures)


def upscale(image: Picture, scale: int, fields: Mapping[str, Any]) -> Call[Task]:
    return submission("upscale", task_of, {"scale": scale, **fields}, {"image": image})


def remove_background(image: Picture, fields: Mapping[str, Any]) -> Call[Task]:
    return submission("background", task_of, fields, {"image": image})


def batch(texts: Sequence[str], fields: Mapping[str, Any]) -> Call[Batch]:
    return submission("batch-generate", batch_of, {"texts": list(texts), **fields}, {})


def price(path: str, fields: Mapping[str, Any], pictures: Mapping[str, Picture | None]) -> Call[Price]:
    return submission(path, lambda data: read(Price, data), {**fields, "dry_run": True}, pictures)


def task(task_id: str) -> Call[Task]:
    return Call("GET", f"/image/task/{_part(task_id)}", task_of)


def cancel(task_id: str) -> Call[Task]:
    return Call("POST", f"/image/task/{_part(task_id)}/cancel", task_of)


def retry(task_id: str) -> Call[Task]:
    """A new task each time it is sent: the server takes no Idempotency-Key here."""
    return Call("POST", f"/image/task/{_part(task_id)}/retry", task_of, repeatable=False)


def delete(task_id: str) -> Call[None]:
    return Call("DELETE", f"/image/task/{_part(task_id)}", _nothing)


def history(filters: Mapping[str, Any], limit: int, cursor: str | None) -> Call[Page]:
    query = {**filters, "limit": limit, **({"cursor": cursor} if cursor else {})}
    return Call("GET", "/image/tasks", _page_of, query={name: _query(value) for name, value in query.items()})


def batch_status(batch_id: str) -> Call[Batch]:
    return Call("GET", f"/image/batch/{_part(batch_id)}", batch_of)


def cancel_batch(batch_id: str) -> Call[Batch]:
    return Call("POST", f"/image/batch/{_part(batch_id)}/cancel", batch_of)


def events(task_id: str) -> Call[None]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    return Call("GET", f"/image/task/{_part(task_id)}/events", _nothing, headers=headers)


def picture(task_id: str, index: int, variant: str) -> Call[None]:
    query = {"index": index, "variant": variant}
    return Call("GET", f"/image/task/{_part(task_id)}/image", _nothing, query=query)


def archive(ids: Sequence[str]) -> Call[None]:
    """A ZIP of tasks, or of one batch."""
    if len(ids) == 1 and ids[0].startswith("bat"):
        return Call("GET", f"/image/batch/{_part(ids[0])}/download", _nothing)
    return Call("POST", "/image/download", _nothing, json={"task_ids": list(ids)})


def models() -> Call[tuple[Model, ...]]:
    return Call("GET", "/models", lambda data: read_items(Model, data))


def styles() -> Call[tuple[Style, ...]]:
    return Call("GET", "/styles", lambda data: read_items(Style, data))


def plans() -> Call[Mapping[str, Any]]:
    return Call("GET", "/plans", lambda data: data)


def usage(since: str | None, until: str | None, group_by: str) -> Call[Usage]:
    query = {"since": since, "until": until, "group_by": group_by}
    return Call("GET", "/usage", lambda data: read(Usage, data), query={n: v for n, v in query.items() if v})


def loras() -> Call[tuple[Lora, ...]]:
    return Call("GET", "/lora", lambda data: read_items(Lora, data))


def upload_lora(file: Picture, name: str, base_family: str) -> Call[Lora]:
    part = picture_part(file)
    if isinstance(part, str):
        raise ValueError("a LoRA is uploaded from a file, not from an address")
    files = {"file": FilePart(f"{name}.safetensors", part.content, "application/octet-stream")}
    form = {"name": name, "base_family": base_family}
    return Call("POST", "/lora/upload", _lora_of, form=form, files=files, repeatable=False)


def enable_lora(name: str, version: int, enabled: bool) -> Call[Lora]:
    return Call("POST", f"/lora/{_part(name)}/{version}/{'enable' if enabled else 'disable'}", _lora_of)


def delete_lora(name: str, version: int) -> Call[None]:
    return Call("DELETE", f"/lora/{_part(name)}/{version}", _nothing)


def keys() -> Call[tuple[Key, ...]]:
    return Call("GET", "/keys", lambda data: read_items(Key, data))


def create_key(name: str, scopes: Sequence[str] | None, expires_in_days: int | None) -> Call[Key]:
    asked = {"name": name, "scopes": list(scopes) if scopes else None, "expires_in_days": expires_in_days}
    body = {name: value for name, value in asked.items() if value is not None}
    return Call("POST", "/keys", _key_of, json=body, repeatable=False)


def rotate_key(prefix: str, grace_seconds: int) -> Call[Key]:
    body = {"grace_seconds": grace_seconds}
    return Call("POST", f"/keys/{_part(prefix)}/rotate", _key_of, json=body, repeatable=False)


def revoke_key(prefix: str) -> Call[Key]:
    return Call("DELETE", f"/keys/{_part(prefix)}", _key_of)


def webhooks() -> Call[tuple[Endpoint, ...]]:
    return Call("GET", "/webhooks", lambda data: read_items(Endpoint, data))


def create_webhook(url: str, events: Sequence[str]) -> Call[Endpoint]:
    return Call("POST", "/webhooks", _endpoint_of, json={"url": url, "events": list(events)}, repeatable=False)


def delete_webhook(endpoint_id: int) -> Call[None]:
    return Call("DELETE", f"/webhooks/{endpoint_id}", _nothing)


def task_of(data: Any) -> Task:
    return read(Task, data)


def batch_of(data: Any) -> Batch:
    return read(Batch, data)


def _page_of(data: Any) -> Page:
    return read(Page, {**data, "items": tuple(task_of(item) for item in data["items"])})


def _lora_of(data: Any) -> Lora:
    return read(Lora, data)


def _key_of(data: Any) -> Key:
    return read(Key, data)


def _endpoint_of(data: Any) -> Endpoint:
    return read(Endpoint, data)


def _nothing(data: Any) -> None:
    return None


def _part(text: str) -> str:
    """Text as one part of a path."""
    return quote(text, safe="")


def _query(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value

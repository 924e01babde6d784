"""History, queue, file names and errors in ComfyUI's form."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from generation.compat.comfyui.graph import GraphRefused, NodeFault
from generation.compat.comfyui.records import PromptRecord
from generation.tasks.models import Image, Status, Task
from imagegenx_site.errors import ApiError, Fault, InvalidRequest

_NAME: Final = re.compile(r"(?:[A-Za-z0-9_-]{0,40}_)?(img[0-9a-f]{32})_(\d{1,4})\.[a-z]{3,4}")
Places = Mapping[str, tuple[str, str]]


def error_body(error: ApiError) -> dict[str, Any]:
    """`error` for the whole, `node_errors` for the nodes that are meant."""
    if isinstance(error, GraphRefused):
        return _body(error.kind, error.message, _by_node(error.faults, error.types))
    message = error.message
    if isinstance(error, InvalidRequest):
        message = " ".join(fault.sentence({}) for fault in error.faults)
    return _body(error.code, message, {})


def faults_body(error: InvalidRequest, places: Places, types: Mapping[str, str]) -> dict[str, Any]:
    """The faults that our own checks found, at the nodes and inputs that they come from; `types`: by node."""
    faults = [_of_fault(fault, places) for fault in error.faults]
    known = _by_node([fault for fault in faults if fault.node], types)
    return _body("prompt_outputs_failed_validation", " ".join(fault.details for fault in faults), known)


def _body(kind: str, message: str, by_node: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message, "details": "", "extra_info": {}}, "node_errors": by_node}


def _by_node(faults: Sequence[NodeFault], types: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for fault in faults:
        node = {"errors": [], "dependent_outputs": [], "class_type": types.get(fault.node, "")}
        entry = {"type": fault.kind, "message": fault.message, "details": fault.details}
        found.setdefault(fault.node, node)["errors"].append({**entry, "extra_info": {"input_name": fault.input}})
    return found


def _of_fault(fault: Fault, places: Places) -> NodeFault:
    """The longest known beginning of the fault's field says where it came from."""
    near = max((ours for ours in places if fault.field.startswith(ours)), key=len, default="")
    node, name = places.get(near, ("", ""))
    return NodeFault(node, fault.code, "Value not possible here", f"{name or fault.field}: {fault.message}", name)


def files(task: Task, images: Sequence[Image], prefix: str, kind: str = "output") -> list[dict[str, str]]:
    """The names by which `/view` gives the pictures."""
    clean = re.sub(r"[^A-Za-z0-9_-]", "", prefix.rpartition("/")[2])[:40]
    start = f"{clean}_{task.public_id}" if clean else task.public_id
    return [{"filename": f"{start}_{image.index}.{image.format}", "subfolder": "", "type": kind} for image in images]


def file_named(name: str) -> tuple[str, int] | None:
    """Public id of the task, and number of the picture; None for a name that is none of ours."""
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def history_entry(record: PromptRecord, task: Task, images: Sequence[Image]) -> dict[str, Any]:
    """An ended prompt; pictures stand under every node that saves them."""
    done = task.status == Status.SUCCEEDED
    shown = files(task, images, record.prefix)
    failure = {"prompt_id": str(task.id), "exception_message": task.error_message, "exception_type": task.error_code}
    return {
        "prompt": queue_entry(record),
        "outputs": {end: {"images": shown} for end in record.ends} if done else {},
        "status": {
            "status_str": "success" if done else "error",
            "completed": done,
            "messages": [] if done else [["execution_error", failure]],
        },
        "meta": {},
    }


def queue_entry(record: PromptRecord) -> list[Any]:
    """Number, id, graph, what came beside it, the nodes that save."""
    beside = {"client_id": record.client_id} if record.client_id else {}
    return [number_of(record.task_id), str(record.task_id), record.graph, beside, record.ends]


def number_of(task_id: UUID) -> int:
    """Rises from prompt to prompt: the ms of its submission."""
    return task_id.int >> 80

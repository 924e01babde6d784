"""`make logs TASK=...`: one task's life over all processes, in order."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.monitoring import task_log
from imagegenx_site.ids import to_public, uuid7

TASK, OTHER = uuid7(), uuid7()


def written(folder: Path, name: str, *entries: dict[str, Any] | str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    texts = (entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)
    (folder / name).write_text("".join(f"{text}\n" for text in texts))


def entry(second: int, event: str, **fields: Any) -> dict[str, Any]:
    return {"event": event, "level": "info", "logger": "x", "timestamp": f"2026-11-27T09:00:{second:02}.5Z"} | fields


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    task, other = str(TASK), str(OTHER)
    folder = tmp_path / "log"
    written(folder, "io-worker.log", entry(9, "task succeeded", task_id=task, duration_s=0.25, code=None))
    written(
        folder,
        "web.log.1",
        entry(1, "body read", request_id="r1"),
        entry(2, "task submitted", task_id=task, request_id="r1", size="256x256", loras=[]),
        entry(2, "task submitted", task_id=other, request_id="r2"),
    )
    failed = entry(4, "stage failed", task_id=task, exception="Traceback\nOSError: full") | {"level": "error"}
    written(folder, "cpu-worker.log", "a line that is no JSON", failed)
    written(folder, "gpu-worker.log", entry(3, f"sample {task}/0 is paused"), entry(3, "other", task_id=other))
    return folder


def test_all_lines_of_a_task_and_its_request_come_in_the_order_of_time(logs: Path) -> None:
    shown = list(task_log.printed(task_log.lines_of(TASK, logs)))
    assert [line.split()[2] for line in shown] == ["web", "web", "gpu-worker", "cpu-worker", "io-worker"]
    assert shown[0].startswith("2026-11-27 09:00:01.5Z")
    assert shown[0].endswith("body read request_id=r1")
    assert shown[1].endswith("task submitted request_id=r1 size=256x256")
    assert "ERROR stage failed\n    Traceback\n    OSError: full" in shown[3]
    assert shown[4].endswith("task succeeded duration_s=0.25")
    assert [line for line in shown if str(OTHER) in line or "r2" in line] == []


def test_the_command_takes_the_id_of_the_api(logs: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("VAR_DIR", str(logs.parent))
    assert task_log.main([to_public(TASK)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 7
    assert task_log.main([to_public(uuid7())]) == 1
    assert "VAR_DIR chooses" in capsys.readouterr().err
    assert task_log.main(["img-nothing"]) == 2

"""`imagegenx batch`: rows, journal, and what becomes of a run that is killed, interrupted or refused."""

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.rows import picture_bytes
from generation.tasks.models import Status, Task

from imagegenx.account import Account
from imagegenx.cli.batch_journal import Journal
from imagegenx.cli.batch_rows import read_rows
from tests.servers import Program, StandInServer
from tests.stand_in_api import DAMAGED

JOURNAL = ".imagegenx-batch.jsonl"
MANY = 10_000


def write_rows(folder: Path, count: int, text: str = "picture {}") -> None:
    lines = [text.format(number) for number in range(count)]
    (folder / "rows.csv").write_text("\n".join(["text", *lines]) + "\n", "utf-8")


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def saved(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if not path.name.startswith("."))


def journal(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / JOURNAL).read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be torn


@pytest.mark.django_db(transaction=True)
def test_rows_of_every_kind(program: Program, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture_bytes((256, 256)))
    rows = [
        "text,seed,style,image,mask,control_image,name,loras",
        "一个红色的圆,7,cartoon,,,,first,",
        '"a star, large",,,a.png,,,,[]',
        "a cat,,,a.png,a.png,,,",
        "a dog,,,,,a.png,,",
        "fail,,,,,,,",
        "a star,,nothing,,,,,",
        "a star,,,missing.png,,,,",
    ]
    (tmp_path / "rows.csv").write_text("\ufeff" + "\r\n".join(rows), "utf-8")
    found = program.json("batch", "rows.csv", "-o", "out", "--param", "steps=9", code=1)
    assert (found["rows"], found["made"]) == (7, 4)
    assert [(one["row"], one["code"]) for one in found["failed"]] == [
        (5, "out_of_memory"),
        (6, "unknown_style"),
        (7, "picture"),
    ]
    tasks = {task.text: task for task in Task.objects.all()}
    assert {task.kind for task in tasks.values()} == {"text2img", "img2img", "inpaint", "controlnet"}
    assert tasks["一个红色的圆"].params["seed"] == 7
    assert {task.params["steps"] for task in tasks.values()} == {9}
    assert [path.name.split("-")[1] for path in saved(tmp_path / "out")] == ["first", "a", "a", "a"]
    again = program.json("batch", "rows.csv", "-o", "out", "--param", "steps=9", "--resume", code=1)
    assert (again["made"], again["there"], len(again["failed"])) == (0, 4, 3)
    assert Task.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_a_killed_run_goes_on_without_making_anything_twice(program: Program, tmp_path: Path) -> None:
    """Against the product: killed with rows sent, made and saved; then again; then finished."""
    write_rows(tmp_path, 30)
    for part in (5, 15):
        process = program.start("batch", "rows.csv", "-o", "out", "--resume", "-p", "4")
        wait_for(lambda part=part: len(saved(tmp_path / "out")) >= part)  # type: ignore[misc]
        process.kill()
        process.communicate()
    found = program.json("batch", "rows.csv", "-o", "out", "--resume", "-p", "4")
    assert found["made"] + found["there"] == 30
    assert Task.objects.count() == 30
    assert {task.text for task in Task.objects.all()} == {f"picture {number}" for number in range(30)}
    assert len(saved(tmp_path / "out")) == 30


@pytest.mark.django_db(transaction=True)
def test_an_interrupt_cancels_what_is_open_and_the_next_run_makes_it(program: Program, tmp_path: Path) -> None:
    write_rows(tmp_path, 6, "hold {}")
    process = program.start("batch", "rows.csv", "-o", "out", "-p", "3")
    wait_for(lambda: Task.objects.count() == 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert [task.status for task in Task.objects.all()] == [Status.CANCELLED] * 3
    program.run("batch", "rows.csv", "-o", "out", code=7)
    assert "--resume" in program.stderr
    write_rows(tmp_path, 6, "hold {}")
    process = program.start("batch", "rows.csv", "-o", "out", "-p", "6", "--resume", "--json")
    wait_for(lambda: Task.objects.count() == 9)
    Task.objects.filter(status=Status.QUEUED).update(text="go on")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["made"] == 6


def test_ten_thousand_rows_killed_and_finished(
    stand_in: StandInServer, program_at_stand_in: Program, tmp_path: Path
) -> None:
    """The run is killed early; all but the last hundreds of rows are then written to the journal as done, as the rest
    of that run would have: sending every row takes minutes on a busy machine.
    """
    write_rows(tmp_path, MANY)
    command = ("batch", "rows.csv", "-o", "out", "--resume", "-p", "16", "--json")
    process = program_at_stand_in.start(*command)
    wait_for(lambda: len(stand_in.api.tasks) > 200)
    process.kill()
    process.communicate()
    written = mark_as_done(tmp_path, stand_in.url, MANY - 400)
    process = program_at_stand_in.start(*command)
    peak = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        peak = max(peak, int(found[1]) if found else 0)
        time.sleep(0.05)
    out, err = process.communicate()
    assert process.returncode == 0, err
    summary = json.loads(out)
    assert summary["made"] + summary["there"] == MANY
    assert len(stand_in.api.tasks) == MANY - written
    assert len(saved(tmp_path / "out")) == MANY
    assert peak < 150_000  # kB


def mark_as_done(folder: Path, url: str, last: int) -> int:
    """Rows up to number `last` that the run has not begun; how many they were."""
    known = {line.get("row") for line in journal(folder / "out")}
    rows = [row for row in read_rows(folder / "rows.csv", {}) if row.number <= last and row.key not in known]
    with Journal(folder / "out", Account(url, "igx_abc_secret"), resume=True) as opened:
        for row in rows:
            (folder / "out" / f"{row.number}.png").touch()
            opened.done(row.key, [f"{row.number}.png"])
    return len(rows)


def test_a_torn_last_line_is_cut_off(stand_in: StandInServer, program_at_stand_in: Program, tmp_path: Path) -> None:
    write_rows(tmp_path, 3)
    program_at_stand_in.run("batch", "rows.csv", "-o", "out")
    path = tmp_path / "out" / JOURNAL
    complete = path.read_bytes()
    path.write_bytes(complete + b'{"row":"abc","sta')
    assert program_at_stand_in.json("batch", "rows.csv", "-o", "out", "--resume")["there"] == 3
    assert path.read_bytes() == complete


def test_a_lost_answer_makes_one_task(stand_in: StandInServer, program_at_stand_in: Program, tmp_path: Path) -> None:
    """The process is killed when the server has the task and the answer has not come."""
    write_rows(tmp_path, 1)
    program_at_stand_in.run("batch", "rows.csv", "-o", "out")
    head, sending, *_ = (tmp_path / "out" / JOURNAL).read_text().splitlines()
    (tmp_path / "out" / JOURNAL).write_text(f"{head}\n{sending}\n")
    assert program_at_stand_in.json("batch", "rows.csv", "-o", "out", "--resume")["made"] == 1
    assert (len(stand_in.api.tasks), stand_in.api.replays) == (1, 1)


def test_a_request_whose_key_is_forgotten_is_not_sent_again(
    stand_in: StandInServer, program_at_stand_in: Program, tmp_path: Path
) -> None:
    write_rows(tmp_path, 2)
    program_at_stand_in.run("batch", "rows.csv", "-o", "out")
    head, first, *_ = (tmp_path / "out" / JOURNAL).read_text().splitlines()
    old = json.loads(first) | {"at": time.time() - 24 * 3600}
    (tmp_path / "out" / JOURNAL).write_text(f"{head}\n{json.dumps(old)}\n")
    found = program_at_stand_in.json("batch", "rows.csv", "-o", "out", "--resume", code=1)
    assert (found["made"], found["unsure"]) == (1, [1])
    assert len(stand_in.api.tasks) == 2
    found = program_at_stand_in.json("batch", "rows.csv", "-o", "out", "--resume", "--resend-unsure")
    assert (found["made"], found["there"], len(stand_in.api.tasks)) == (1, 1, 3)


def test_rows_may_move_and_be_added(stand_in: StandInServer, program_at_stand_in: Program, tmp_path: Path) -> None:
    """A row is known by its content; equal rows by their number among these."""
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "a"}\n{"prompt": "b", "params": {"seed": 1}}\n')
    assert program_at_stand_in.json("batch", "rows.jsonl", "-o", "out")["made"] == 3
    lines = '{"text": "new"}\n\n{"text": "a"}\n{"text": "b", "seed": 2}\n{"text": "a"}\n'
    (tmp_path / "rows.jsonl").write_text(lines)
    found = program_at_stand_in.json("batch", "rows.jsonl", "-o", "out", "--resume")
    assert (found["rows"], found["made"], found["there"]) == (4, 2, 2)


def test_a_picture_that_was_deleted_is_fetched_again(
    stand_in: StandInServer, program_at_stand_in: Program, tmp_path: Path
) -> None:
    write_rows(tmp_path, 2)
    program_at_stand_in.run("batch", "rows.csv", "-o", "out")
    saved(tmp_path / "out")[0].unlink()
    assert program_at_stand_in.json("batch", "rows.csv", "-o", "out", "--resume")["made"] == 1
    assert (len(stand_in.api.tasks), len(saved(tmp_path / "out"))) == (2, 2)


def test_a_row_whose_picture_was_damaged_is_only_fetched_again(
    stand_in: StandInServer, program_at_stand_in: Program, tmp_path: Path
) -> None:
    write_rows(tmp_path, 1)
    stand_in.api.faults.update({"/files/": [DAMAGED], "/image/task": [DAMAGED]})
    found = program_at_stand_in.json("batch", "rows.csv", "-o", "out", code=1)
    assert found["failed"][0]["code"] == "HashMismatch"
    assert saved(tmp_path / "out") == []
    assert program_at_stand_in.json("batch", "rows.csv", "-o", "out", "--resume")["made"] == 1
    assert len(stand_in.api.tasks) == 1


def test_failed_rows_are_made_anew_when_asked(
    stand_in: StandInServer, program_at_stand_in: Program, tmp_path: Path
) -> None:
    write_rows(tmp_path, 2, "fail {}")
    assert len(program_at_stand_in.json("batch", "rows.csv", "-o", "out", code=1)["failed"]) == 2
    assert program_at_stand_in.json("batch", "rows.csv", "-o", "out", "--resume", code=1)["failed"][0]["row"] == 1
    assert len(stand_in.api.tasks) == 2
    program_at_stand_in.json("batch", "rows.csv", "-o", "out", "--resume", "--retry-failed", code=1)
    assert len(stand_in.api.tasks) == 4


def test_a_run_that_nobody_can_finish_stops_and_keeps_its_place(
    stand_in: StandInServer, program_at_stand_in: Program, tmp_path: Path
) -> None:
    write_rows(tmp_path, 5)
    stand_in.api.faults["generate"] = [401]
    program_at_stand_in.run("batch", "rows.csv", "-o", "out", "-p", "1", code=3)
    stand_in.api.faults["generate"] = [(429, {"retry-after": "86400"})]
    program_at_stand_in.run("batch", "rows.csv", "-o", "out", "-p", "1", "--resume", code=5)
    stand_in.api.faults["generate"] = [(429, {"retry-after": "0"})] * 15
    assert program_at_stand_in.json("batch", "rows.csv", "-o", "out", "--resume")["made"] == 5
    assert len(stand_in.api.tasks) == 5


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.csv", "name,seed\nx,1\n", "no column `text`"),
        ("a.csv", "text,seed\nx,one\n", "seed can't be 'one'"),
        ("a.csv", "text,seed\nx,1,2\n", "more cells"),
        ("a.csv", "text,seed\n,1\n", "no text"),
        ("a.jsonl", '{"text": "x"}\n{"text"\n', "row 2: no JSON"),
        ("a.jsonl", '{"text": "x", "kind": "film"}\n', "kind is one of"),
    ],
)
def test_a_wrong_file_makes_nothing(
    stand_in: StandInServer, program_at_stand_in: Program, tmp_path: Path, name: str, content: str, fault: str
) -> None:
    (tmp_path / name).write_text(content)
    program_at_stand_in.run("batch", name, "-o", "out", code=7)
    assert fault in program_at_stand_in.stderr
    assert stand_in.api.requests == []


def test_one_run_at_a_time_and_only_on_its_server(
    stand_in: StandInServer, program_at_stand_in: Program, tmp_path: Path
) -> None:
    write_rows(tmp_path, 1, "hold {}")
    process = program_at_stand_in.start("batch", "rows.csv", "-o", "out")
    wait_for(lambda: stand_in.api.tasks)
    program_at_stand_in.run("batch", "rows.csv", "-o", "out", "--resume", code=7)
    assert "Another run" in program_at_stand_in.stderr
    for task_id in stand_in.api.tasks:
        stand_in.api.finish(task_id)
    assert process.wait(30) == 0
    other = {"IMAGEGENX_URL": "http://localhost:9"}
    program_at_stand_in.run("batch", "rows.csv", "-o", "out", "--resume", code=7, **other)
    assert "is of a run on" in program_at_stand_in.stderr

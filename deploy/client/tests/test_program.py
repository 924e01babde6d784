"""The program `imagegenx` as a process, against the product's web process."""

import json
import os
import pty
import re
import signal
import stat
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from fixtures.rows import picture_bytes
from generation.catalogue.tests.test_loras import lora_bytes
from generation.tasks.models import Status, Task
from PIL import Image as Pillow

from tests.servers import PROGRAM, Program

pytestmark = pytest.mark.django_db(transaction=True)


def test_login_saves_an_account_that_only_its_owner_reads(live: str, key: str, tmp_path: Path) -> None:
    program = Program(tmp_path, "", "")
    assert "imagegenx login" in (program.run("models", code=3) or program.stderr)
    program.run("login", "--url", live, "--key-stdin", stdin="igx_0000000000_wrong\n", code=3)
    program.run("models", code=3)
    program.run("login", "--url", live + "/", "--key-stdin", stdin=f"{key}\n")
    file = tmp_path / "config" / "imagegenx" / "account.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == {"url": live, "key": key}
    assert "mini" in program.run("models")
    program.run("models", IMAGEGENX_URL="http://127.0.0.1:9", code=3)  # another server does not get the saved key
    program.run("logout")
    assert not file.exists()


def test_draw_saves_pictures_and_writes_where(program: Program, tmp_path: Path) -> None:
    paths = program.run(
        "draw", "a red circle", "-n", "2", "-o", "out/", "--seed", "7", "--param", "cache=false"
    ).split()
    assert [Pillow.open(tmp_path / path).size for path in paths] == [(256, 256)] * 2
    assert all(path.startswith("out/a-red-circle-") for path in paths)
    found = program.json("draw", "a star", "-o", "star.webp", "--style", "cartoon", "--lora", "nothing:0.5", code=4)
    assert found["error"]["faults"][0]["field"].startswith("params.loras")
    found = program.json("draw", "a star", "-o", "star.png", "--style", "cartoon")
    assert found["files"] == ["star.png"]
    assert found["task"]["input"]["postprocess"]["format"] == "png"
    assert found["task"]["input"]["style"] == "cartoon"
    assert (tmp_path / "star.png").is_file()


def test_pictures_become_pictures(program: Program, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture_bytes((256, 256)))
    commands = [
        ("edit", "a.png", "make it blue", "--strength", ".6"),
        ("inpaint", "a.png", "a star", "--mask", "a.png"),
        ("inpaint", "a.png", "a star", "--area", "16,16,64,64"),
        ("control", "a.png", "a cat", "--type", "canny"),
        ("upscale", "a.png", "--scale", "2"),
        ("remove-background", "a.png"),
    ]
    made = [program.json(*command, "-o", f"{number}.webp") for number, command in enumerate(commands)]
    kinds = ["img2img", "inpaint", "inpaint", "controlnet", "upscale", "background"]
    assert [one["task"]["kind"] for one in made] == kinds
    assert made[0]["task"]["input"]["strength"] == 0.6
    assert made[3]["task"]["input"]["control_type"] == "canny"
    program.run("inpaint", "a.png", "a star", code=2)
    program.run("edit", "missing.png", "a star", code=2)


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (("draw", "fail"), 1, "TaskFailed"),
        (("draw", "a star", "--steps", "0"), 4, "InvalidRequest"),
        (("watch", "img" + "0" * 32), 4, "NotFound"),
        (("draw", "hold on", "--timeout", "0.3"), 8, "WaitTimeout"),
        (("draw", "a star", "-o", "/proc/nothing/"), 7, "FileNotFoundError"),
        (("models", "--url", "http://127.0.0.1:9"), 6, "ConnectionFailed"),
        (("models", "--url", "127.0.0.1:9"), 3, "NotConfigured"),
    ],
)
def test_exit_codes(program: Program, arguments: tuple[str, ...], code: int, kind: str) -> None:
    found = program.json(*arguments, code=code)
    assert (found["exit_code"], found["error"]["type"]) == (code, kind)
    assert any(line.startswith("error: ") for line in program.stderr.splitlines())
    assert "Traceback" not in program.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_task(program: Program, number: signal.Signals) -> None:
    process = program.start("draw", "hold on")
    wait_for(lambda: Task.objects.filter(status=Status.QUEUED).exists())
    time.sleep(0.3)  # it follows the task by now; either way the task is canceled
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    task = Task.objects.get()
    assert task.status == Status.CANCELLED
    assert f"{task.public_id} was canceled" in err


def test_watch_history_zip_and_cancel(program: Program, tmp_path: Path) -> None:
    done = program.run("draw", "a star", "--no-wait").strip()
    assert program.run("watch", done, "-o", "out").startswith("out/a-star-")
    held = program.run("draw", "hold on", "--no-wait").strip()
    assert program.run("cancel", held) == f"{held} canceled\n"
    program.run("watch", held, code=1)
    assert [line.split("\t")[0] for line in program.run("history", "--since", "2d").splitlines()] == [held, done]
    assert [one["task_id"] for one in program.json("history", "--status", "succeeded")["items"]] == [done]
    assert program.json("history", "--since", "2d", "--until", "1d")["items"] == []
    program.run("history", "--since", "yesterday", code=2)
    program.run("zip", done, "-o", "all.zip")
    assert len(zipfile.ZipFile(tmp_path / "all.zip").namelist()) == 1


def test_the_catalogue_and_the_account(program: Program, tmp_path: Path) -> None:
    assert "mini\t" in program.run("models")
    assert {"name", "title_zh"} <= program.json("styles")["items"][0].keys()
    assert program.run("usage", "--since", "7d", "--by", "model").splitlines()[-1].startswith("total\t")
    (tmp_path / "My Ink.safetensors").write_bytes(lora_bytes())
    assert program.run("loras", "upload", "My Ink.safetensors") == "my-ink@1 active\n"
    assert program.run("loras", "disable", "my-ink@1") == "my-ink@1 disabled\n"
    assert program.json("loras")["items"][0]["name"] == "my-ink"
    program.run("loras", "delete", "my-ink@1")
    made = program.json("keys", "create", "shop", "--scope", "read")
    assert program.run("models", IMAGEGENX_KEY=made["api_key"])
    program.run("draw", "a star", IMAGEGENX_KEY=made["api_key"], code=3)
    program.run("keys", "revoke", made["prefix"])
    program.run("models", IMAGEGENX_KEY=made["api_key"], code=3)
    assert made["prefix"] in program.run("keys")


def test_help_and_version(program: Program) -> None:
    assert re.fullmatch(r"imagegenx \d+\.\d+\.\d+\n", program.run("--version"))
    assert "130 interrupted" in " ".join(program.run("--help").split())


def test_a_terminal_gets_bars_and_the_picture(program: Program) -> None:
    """In a pseudo-terminal, as half blocks; sixel, kitty and iTerm where they are asked for."""
    for protocol, mark in {"blocks": "▀", "kitty": "\x1b_Ga=T,f=100", "sixel": "\x1bPq", "iterm": "1337;File="}.items():
        text = in_terminal(program, ["draw", "a star", "-o", "out"], IMAGEGENX_PICTURES=protocol)
        assert mark in text
    assert "%" in text
    assert "\x1b_G" not in in_terminal(program, ["draw", "a star", "--no-show"], IMAGEGENX_PICTURES="kitty")


def in_terminal(program: Program, arguments: list[str], **env: str) -> str:
    ours, theirs = pty.openpty()
    command = [*PROGRAM, *arguments]
    process = subprocess.Popen(
        command,
        cwd=program.folder,
        env={**program.env, "TERM": "xterm-256color", **env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        written += piece
    os.close(ours)
    assert process.wait(30) == 0, written.decode()
    return written.decode()


def wait_for(condition: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)

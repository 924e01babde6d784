"""The page: anybody may open it, it loads nothing from elsewhere, and every label is there in both languages."""

import re
from pathlib import Path

import httpx
from django.conf import settings
from django.test import Client

FOLDER = Path(settings.BASE_DIR) / "generation"
SCRIPT = (FOLDER / "static/generation/create.js").read_text("utf-8")


def texts(language: str) -> dict[str, str]:
    block = re.search(rf"^  {language}: {{(.*?)^  }},", SCRIPT, re.S | re.M)
    assert block
    return dict(re.findall(r"(\w+): \"([^\"]+)\"", block[1]))


def test_every_text_is_there_in_both_languages() -> None:
    page = (FOLDER / "templates/generation/create.html").read_text("utf-8")
    assert texts("en").keys() == texts("zh").keys()
    assert set(re.findall(r'data-text="(\w+)"', page)) <= texts("en").keys()
    assert set(re.findall(r'label\("(\w+)"\)', SCRIPT)) <= texts("en").keys()
    assert {"queued", "running", "succeeded", "failed", "canceled", "expired"} <= texts("en").keys()


def test_the_form_is_labelled_as_such_forms_are() -> None:
    names = ("prompt", "negative", "style", "model", "size", "generate", "history")
    english, chinese = texts("en"), texts("zh")
    assert [english[name] for name in names] == [
        "Prompt",
        "Negative prompt",
        "Style",
        "Model",
        "Size",
        "Generate",
        "History",
    ]
    assert [chinese[name] for name in names] == ["提示词", "反向提示词", "风格", "模型", "尺寸", "生成", "历史记录"]


def test_the_script_finds_its_elements() -> None:
    page = (FOLDER / "templates/generation/create.html").read_text("utf-8")
    assert set(re.findall(r'\$\("([\w-]+)"\)', SCRIPT)) <= set(re.findall(r'id="([\w-]+)"', page))


def test_the_page_runs_no_script_but_its_own() -> None:
    answer = Client().get("/")
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    assert set(re.findall(r'(?:src|href)="([^"]+)"', page)) == {
        "data:,",
        "/static/generation/create.css",
        "/static/generation/create.js",
        "/api/docs",
    }
    assert not re.findall(r"<script(?![^>]*src=)|\son\w+=", page)
    assert "innerHTML" not in SCRIPT, "strings become text, never markup"


def test_its_files_are_served(live: str) -> None:
    for name in ("create.js", "create.css"):
        assert httpx.get(f"{live}/static/generation/{name}").status_code == 200

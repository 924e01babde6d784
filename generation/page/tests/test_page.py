"""The page for people: opens for anybody, loads nothing of others, and has every word in both languages."""

import re
from pathlib import Path

import httpx
from django.conf import settings
from django.test import Client

FOLDER = Path(settings.BASE_DIR) / "generation"
SCRIPT = (FOLDER / "static/generation/create.js").read_text("utf-8")


def words(language: str) -> set[str]:
    block = re.search(rf"^  {language}: {{(.*?)^  }},", SCRIPT, re.S | re.M)
    assert block
    return set(re.findall(r"(\w+): \"", block[1]))


def test_every_word_is_there_in_both_languages() -> None:
    page = (FOLDER / "templates/generation/create.html").read_text("utf-8")
    assert words("en") == words("zh")
    assert set(re.findall(r'data-text="(\w+)"', page)) <= words("en")
    assert {"queued", "running", "succeeded", "failed", "canceled", "expired"} <= words("en")


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
    assert "innerHTML" not in SCRIPT, "words are text, never markup"


def test_its_files_are_served(live: str) -> None:
    for name in ("create.js", "create.css"):
        assert httpx.get(f"{live}/static/generation/{name}").status_code == 200

"""The page: anybody may open it, it loads nothing from elsewhere, and every text is there in both languages."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.test import Client

from fixtures.style_pictures import DRAWN
from generation.accounts.models import User
from generation.api.tests.test_scopes import CALLS
from generation.catalogue.models import Style

GENERATION = Path(settings.BASE_DIR) / "generation"
STUDIO = GENERATION / "static/generation/studio"
TEMPLATES = [GENERATION / f"templates/generation/{name}.html" for name in ("studio", "kids")]
SCRIPTS = {path: path.read_text("utf-8") for path in sorted(STUDIO.rglob("*.js"))}
FAMILIES = (
    "fault",
    "status",
    "reason",
    "kind",
    "control",
    "scope",
    "quota",
    "missing",
    "mark",
    "role",
    "side",
)  # names made in code


def texts(language: str) -> dict[str, str]:
    lines = re.findall(r'^  "?([\w-]+)"?: (".*"),$', SCRIPTS[STUDIO / f"texts/{language}.js"], re.M)
    return {name: json.loads(text) for name, text in lines}


def used_texts() -> set[str]:
    found: set[str] = set()
    for script in SCRIPTS.values():
        found |= set(re.findall(r'\bt\(\s*"(\w+)"', script))
        found |= {name for pair in re.findall(r'\bt\([^")]*\? "(\w+)" : "(\w+)"', script) for name in pair}
    for template in TEMPLATES:
        found |= set(re.findall(r'data-(?:text|label)="(\w+)"', template.read_text("utf-8")))
    return found


def test_every_text_is_there_in_both_languages_and_used() -> None:
    english, chinese = texts("en"), texts("zh")
    assert english.keys() == chinese.keys()
    assert len(english) > 200
    assert used_texts() <= english.keys()
    states = {"queued", "running", "succeeded", "failed", "canceled", "expired", "open"}
    of_code = {name for name in english if name.startswith(tuple(f"{family}_" for family in FAMILIES))}
    assert english.keys() - used_texts() - states - of_code == set()


def test_both_languages_fill_the_same_values_in() -> None:
    english, chinese = texts("en"), texts("zh")
    for name, text in english.items():
        assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", chinese[name])), name


def test_every_scope_has_a_name() -> None:
    assert {f"scope_{scope}" for scope in CALLS if scope} <= texts("en").keys()


def test_the_form_is_labelled_as_such_forms_are() -> None:
    names = ("prompt", "negative", "style", "model", "seed", "generate", "gallery")
    english, chinese = texts("en"), texts("zh")
    assert [english[name] for name in names] == [
        "Prompt", "Negative prompt", "Style", "Model", "Seed", "Generate", "Gallery",
    ]  # fmt: skip
    assert [chinese[name] for name in names] == ["提示词", "反向提示词", "风格", "模型", "种子", "生成", "图库"]


@pytest.mark.parametrize("path", ["/", "/kids"])
def test_the_page_runs_no_script_but_its_own(path: str) -> None:
    answer = Client().get(path)
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]
    loaded = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    assert all(one.startswith(("/static/generation/studio/", "#", "data:,", "/api/docs", "/kids")) for one in loaded)
    assert not re.findall(r"<script(?![^>]*src=)|\son\w+=|<style|\sstyle=", page)


def test_strings_become_text_and_never_markup() -> None:
    for path, script in SCRIPTS.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", script), path
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", script), path


def test_a_module_is_small_enough_to_be_read() -> None:
    lengths = {path.name: script.count("\n") for path, script in SCRIPTS.items() if path.parent.name != "texts"}
    assert {name for name, lines in lengths.items() if lines > 260} == set()


def test_the_language_is_the_cookie_s_else_the_browser_s() -> None:
    def language(client: Client, accepted: str) -> str | None:
        found = re.search(
            r'<html lang="([^"]+)"', client.get("/", headers={"accept-language": accepted}).content.decode()
        )
        return found and found[1]

    client = Client()
    assert language(client, "de, en;q=0.5") == "en"
    assert language(client, "zh-CN, en;q=0.5") == "zh-Hans"
    client.cookies["django_language"] = "en"
    assert language(client, "zh-CN") == "en"


def test_every_built_in_style_has_a_picture(seeded: None) -> None:
    names = set(Style.objects.values_list("name", flat=True))
    assert set(DRAWN) == names == {path.stem for path in (STUDIO / "style").glob("*.webp")}
    assert sum(path.stat().st_size for path in (STUDIO / "style").glob("*.webp")) < 60_000


def test_children_choose_from_what_their_profile_allows(
    owner: User, client_of: Callable[..., Client], key_of: Callable[..., str]
) -> None:
    made = (
        client_of(owner).post("/api/v1/keys", {"profile": "child-safe"}, content_type="application/json").json()["data"]
    )
    child = Client(headers={"authorization": f"Bearer {made['api_key']}"})
    words = SCRIPTS[STUDIO / "kids/words.js"]
    subjects = re.findall(r'\["(\w+)", "(\w+)"\]', words)
    styles = json.loads(re.search(r"STYLES = (\[.*?\])", SCRIPTS[STUDIO / "kids/kids.js"])[1])  # type: ignore[index]
    assert len(subjects) >= 9
    assert {path.stem for path in (STUDIO / "kids/subjects").glob("*.webp")} == {english for english, _ in subjects}
    for english, chinese in subjects:
        for text in (f"a red {english} on a blue background", f"一个红色的{chinese}，蓝色背景"):
            asked = {"text": text, "params": {"style": styles[0]}, "dry_run": True}
            answer = child.post("/api/v1/image/generate", asked, content_type="application/json")
            assert answer.status_code == 200, (text, answer.content)
    assert set(styles) <= set(Style.objects.filter(child_safe=True).values_list("name", flat=True))


def test_its_files_are_served(live: str) -> None:
    for name in ("app.js", "studio.css", "make/create.js", "style/cartoon.webp"):
        assert httpx.get(f"{live}/static/generation/studio/{name}").status_code == 200

"""The page beside the whole product and the model that ships: what people do there, from the first word to the ZIP."""

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from generation.page.tests.browser.conftest import go, look, until

FIRST_PAINT_BYTES = 100_000
Studio = Callable[..., Any]


def generate(page: Any, text: str) -> Any:
    """Its first card, when it is done."""
    page.fill("#prompt", text)
    page.click(".press .primary")
    card = page.locator("task-card", has=page.get_by_text(text, exact=True)).first
    card.wait_for()
    until(
        page,
        "id => document.querySelector(`[data-task='${id}']`).className === 'succeeded'",
        card.get_attribute("data-task"),
    )
    return card


def test_the_first_paint_is_small_and_from_here_alone(studio: Studio) -> None:
    page = studio()
    sizes: dict[str, int] = {}
    page.on(
        "response", lambda answer: sizes.update({answer.url: len(answer.body())}) if "static" in answer.url else None
    )
    page.reload()
    page.wait_for_selector(".make")
    page.wait_for_load_state("networkidle")
    code = {url: size for url, size in sizes.items() if url.endswith((".js", ".css"))}
    assert len(code) > 10
    assert sum(code.values()) < FIRST_PAINT_BYTES, sorted(code.items(), key=lambda one: -one[1])[:8]


def test_words_become_pictures_and_nothing_is_lost_by_closing_the_page(studio: Studio, stack: Any) -> None:
    page = studio()
    page.fill("#prompt", "a {red|blue} star with a bicycle")
    page.get_by_text("make 2 prompts").wait_for()
    assert "bicycle" in page.locator(".notes .warning").inner_text()
    until(page, "() => /^2 pictures · .* megapixel-steps · about/.test(document.querySelector('.estimate').innerText)")
    page.locator(".advanced summary").click()
    page.get_by_role("spinbutton", name="Steps").fill("40")
    page.get_by_role("spinbutton", name="Steps").press("Tab")
    page.click(".press .primary")
    page.locator("task-card.running").first.wait_for()
    page.close()

    page = page.context.new_page()
    page.goto(stack.url)
    page.get_by_text("a red star with a bicycle", exact=True).first.wait_for()
    until(page, "() => /step [0-9]+ of 40/.test(document.querySelector('.tasks').innerText)")
    until(page, "() => document.querySelectorAll('task-card.succeeded img').length >= 2")
    assert page.locator("#prompt").input_value() == "a {red|blue} star with a bicycle"
    page.get_by_role("button", name="Earlier prompts").click()
    assert page.locator(".earlier li").count() >= 1


def test_a_task_is_canceled_and_tried_again(studio: Studio) -> None:
    page = studio()
    page.locator(".shapes label", has_text="768").first.click()
    page.fill("#prompt", "a green tree")
    page.click(".press .primary")
    card = page.locator("task-card.queued, task-card.running").first
    card.get_by_role("button", name="Cancel").click()
    page.locator("task-card.canceled").wait_for()
    page.locator("task-card.canceled").get_by_role("button", name="Retry").click()
    page.locator("task-card.running, task-card.queued").first.get_by_role("button", name="Cancel").click()
    page.locator("task-card.canceled").wait_for()


def test_a_painted_mask_changes_the_picture_only_there(studio: Studio, stack: Any) -> None:
    page = studio()
    before = generate(page, "a yellow star, purple background")
    first = before.get_attribute("data-task")
    before.locator(".preview button").click()
    page.locator(".viewer").get_by_role("button", name="Repaint").click()
    canvas = page.locator("mask-canvas canvas")
    canvas.wait_for()
    until(page, "() => document.querySelector('mask-canvas img').complete")
    page.get_by_label("Brush size").fill("0.4")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.15)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.15, steps=6)
    page.mouse.up()
    for name in ("Invert", "Invert", "Clear", "Undo"):
        page.locator(".mask-tools").get_by_role("button", name=name, exact=True).click()
    page.get_by_label("Strength").fill("1")
    after = generate(page, "a red circle, white background")
    old, new = (picture_of(stack, task) for task in (first, after.get_attribute("data-task")))
    change = np.abs(old.astype(float) - new).mean(axis=2)
    assert change[:70, 60:-60].mean() > 30
    assert change[-100:].mean() < 6


def picture_of(stack: Any, task: str) -> Any:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    answer = httpx.get(f"{stack.url}/api/v1/image/task/{task}/image?redirect=false", headers=headers)
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))


def test_a_dropped_picture_is_the_start_of_another(studio: Studio, tmp_path: Path) -> None:
    page = studio()
    file = tmp_path / "given.png"
    Image.new("RGB", (300, 400), "orange").save(file)
    page.locator(".sources label", has_text="Picture").click()
    page.click(".press .primary")
    page.locator(".notice.bad").wait_for()
    page.set_input_files(".drop input[type=file]", file)
    page.locator(".given img").wait_for()
    assert page.locator("input[name=ratio]:checked").get_attribute("value") == "3:4"
    card = generate(page, "an orange fish")
    card.locator(".preview button").click()
    assert "336 × 448" in page.locator(".viewer dl").inner_text()


def test_a_picture_is_extended_and_only_what_is_new_is_painted(studio: Studio, stack: Any, tmp_path: Path) -> None:
    """The frame is dragged to the right; the old part comes back as it was, but for its edge."""
    page = studio()
    file = tmp_path / "given.png"
    Image.radial_gradient("L").convert("RGB").save(file)  # 256 x 256
    page.locator(".sources label", has_text="Repaint").click()
    page.set_input_files(".drop input[type=file]", file)
    page.locator("mask-canvas canvas").wait_for()
    page.get_by_role("button", name="Zoom in").click()
    assert page.locator(".view").evaluate("view => view.scrollWidth > view.clientWidth * 1.4")
    page.get_by_role("button", name="Zoom out").click()
    page.get_by_role("button", name="Extend the picture").click()
    handle, picture = page.locator(".handle.of-right"), page.locator(".outpaint > img").bounding_box()
    box = handle.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(picture["x"] + picture["width"] * 1.5, box["y"] + 5, steps=5)
    page.mouse.up()
    assert page.get_by_label("Right (%)").input_value() == "50"
    frame = page.locator(".outpaint .frame").bounding_box()
    assert abs(frame["x"] - picture["x"]) < 4
    assert abs(frame["width"] - 1.5 * picture["width"]) < 6
    assert "384 × 256" in page.locator(".outpaint-form output").inner_text()
    look(page, "extend")
    page.locator(".outpaint-form").get_by_role("button", name="Extend", exact=True).click()
    until(page, "() => document.querySelector('mask-canvas canvas')?.width === 384")
    card = generate(page, "a blue square, white background")
    made = picture_of(stack, card.get_attribute("data-task"))
    assert made.shape[:2] == (256, 384)
    old = np.asarray(Image.open(file)).astype(float)
    assert np.abs(made[8:-8, 8:200].astype(float) - old[8:-8, 8:200]).mean() < 8


def test_lines_and_watermark_are_shown_before_anything_is_spent(studio: Studio, tmp_path: Path) -> None:
    page = studio()
    file = tmp_path / "given.png"
    Image.radial_gradient("L").convert("RGB").save(file)
    page.locator(".advanced summary").click()
    page.get_by_label("Watermark", exact=True).fill("小熊 shop")
    page.get_by_role("button", name="Watermark preview").click()
    page.locator(".shown-mark img").wait_for()
    page.keyboard.press("Escape")
    if page.locator(".sources label", has_text="Lines").count() == 0:
        return  # the shipped model has no ControlNet installed here
    page.locator(".sources label", has_text="Lines").click()
    page.set_input_files(".drop input[type=file]", file)
    page.get_by_role("button", name="Show the lines").click()
    page.locator(".control-preview img").wait_for()
    assert page.evaluate("document.querySelector('.control-preview img').naturalWidth") == 256


def test_pictures_are_found_looked_at_and_handed_over(studio: Studio) -> None:
    page = studio()
    generate(page, "a pink heart")
    go(page, "gallery")
    page.fill(".filters input[type=search]", "pink heart")
    until(page, "() => document.querySelector('window-grid').items.length === 1")
    page.fill(".filters input[type=search]", "")
    until(page, "() => document.querySelector('window-grid').items.length > 2")
    for number in (0, 1):
        page.locator(".tile .mark").nth(number).click()
    with page.expect_download() as download:
        page.locator(".selection").get_by_role("button", name="Download").click()
    names = zipfile.ZipFile(download.value.path()).namelist()
    assert len(names) == 2
    assert any("pink heart" in name for name in names)
    page.locator(".tile").first.click()
    page.locator(".viewer img").wait_for()
    heart = page.locator(".viewer h2").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator(".viewer h2").inner_text() != heart
    page.keyboard.press("ArrowLeft")
    assert re.search(r"Seed\s+\d+", page.locator(".viewer dl").inner_text())
    page.locator(".viewer").get_by_role("button", name="Variations").click()
    page.locator("task-card .many").first.wait_for()
    assert page.locator("task-card .many").first.locator("img").count() == 4


def test_a_batch_is_filled_mended_and_downloaded(studio: Studio) -> None:
    page = studio(refusals=(400,))
    go(page, "batch")
    page.fill("#batch-text", 'text,style,seed\n"a red circle, white background",cartoon,7\na blue cup,no-such-style,\n')
    page.get_by_role("button", name="Add to the table").click()
    page.get_by_role("button", name="Start", exact=True).click()
    page.locator("tr.succeeded").wait_for()
    page.locator("tr.failed").wait_for()
    assert "no-such-style" in page.locator("tr.failed .state").inner_text()
    page.reload()
    page.locator("tr.succeeded img").wait_for()
    page.fill("#batch-text", "a green tree")
    page.get_by_role("button", name="Add to the table").click()
    page.locator("tbody tr").nth(2).get_by_role("textbox").fill("a green tree on a white background")
    page.locator("tbody tr").nth(2).get_by_role("button", name="Run", exact=True).click()
    until(page, "() => document.querySelectorAll('tr.succeeded').length === 2")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download ZIP").click()
    assert len(zipfile.ZipFile(download.value.path()).namelist()) == 2
    page.get_by_role("button", name="Empty the table").click()
    assert page.locator("tbody tr").count() == 0


def test_keys_are_made_and_ended_and_usage_is_shown(studio: Studio) -> None:
    page = studio()
    go(page, "account")
    page.get_by_label("Name", exact=True).fill("shop")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator(".secret code")
    secret.wait_for()
    assert secret.inner_text().startswith("igx_")
    line = page.locator("tr", has_text="shop").first
    page.on("dialog", lambda dialog: dialog.accept())
    line.get_by_role("button", name="Revoke").click()
    page.locator("tr.dead", has_text="shop").wait_for()
    assert page.locator(".plot rect.bar").count() == 30
    with page.expect_download() as download:
        page.locator(".bill").get_by_role("button").click()
    assert Path(download.value.path()).read_text("utf-8-sig").startswith("day,tasks,succeeded,images,megapixel_steps")


def test_children_paint_without_a_word_to_read(studio: Studio, stack: Any, open_page: Callable[..., Any]) -> None:
    open_page(f"{stack.url}/kids").locator(".closed").wait_for()
    page = studio(language="zh-CN", refusals=(400,))
    go(page, "account")
    page.locator(".note button").click()
    page.locator(".go").wait_for()
    assert page.locator("input, textarea, select").count() == 0
    page.get_by_role("button", name="小猫").click()
    page.get_by_role("button", name="帽子: 红色").click()
    page.locator(".go").click()
    page.locator(".result > img").wait_for()
    assert page.locator(".result > img").get_attribute("alt") == "一个棕色的小猫，戴着红色帽子，绿色背景"
    page.goto(stack.url)
    page.wait_for_selector(".make")
    page.fill("#prompt", "a gun")
    page.click(".press .primary")
    page.locator(".notice.bad").wait_for()


def test_everything_is_reached_by_keyboard(studio: Studio) -> None:
    page = studio()
    page.keyboard.press("Tab")
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate("document.activeElement.name || document.activeElement.textContent.trim().slice(0, 20)")
        )
        if seen[-1] == "Generate":
            break
    assert {"text", "kind", "style", "ratio", "longer", "count", "model", "Advanced", "Generate"} <= set(seen)
    page.locator("#prompt").focus()
    page.keyboard.type("a black cat")
    page.keyboard.press("Control+Enter")
    page.locator("task-card", has_text="a black cat").first.wait_for()


@pytest.mark.parametrize(
    ("width", "language", "dark"), [(360, "zh-CN", True), (1280, "en-US", False), (3840, "zh-CN", False)]
)
def test_no_screen_has_a_barrier_or_is_wider_than_the_window(
    studio: Studio, stack: Any, open_page: Callable[..., Any], width: int, language: str, dark: bool
) -> None:
    how = {"width": width, "height": 2160 if width > 2000 else 800, "language": language, "dark": dark}
    axe = width < 2000  # the widest has the colours and elements of the one before
    page = open_page(stack.url, **how)
    page.locator(".gate h1").wait_for()
    look(page, "login", axe=axe)
    page = studio(**how)
    page.wait_for_selector("task-card")
    page.locator(".advanced summary").click()
    page.locator(".sources label").nth(1).click()
    look(page, "create", axe=axe)
    for screen in ("gallery", "batch", "account"):
        go(page, screen)
        page.wait_for_selector({"gallery": ".tile img", "batch": "#batch-text", "account": ".plot"}[screen])
        until(page, "() => [...document.querySelectorAll('#main img')].every(one => one.complete)")
        look(page, screen, axe=axe)
        if screen == "gallery":
            page.locator(".tile").first.click()
            page.locator(".viewer img").wait_for()
            look(page, "viewer", axe=axe)
            page.keyboard.press("Escape")
    look(open_page(f"{stack.url}/kids", **how), "kids", axe=axe)

"""The gallery with 10,000 pictures."""

import time
from collections.abc import Callable
from copy import copy
from typing import Any

import pytest

from fixtures.rows import finish
from generation.accounts.models import User
from generation.page.tests.browser.conftest import until
from generation.tasks.models import Image, Task
from imagegenx_site.ids import image_id, uuid7

MANY, EACH = 10_000, 4  # pictures; of each task


@pytest.fixture
def page(
    live: str, owner: User, key_of: Callable[..., str], make_task: Callable[..., Task], log_in: Callable[..., Any]
) -> Any:
    first = finish(make_task(), count=EACH)
    pictures = list(first.image_rows.order_by("index"))
    tasks, images = [], []
    for number in range(MANY // EACH - 1):
        task = copy(first)
        task.id, task.text = uuid7(), f"picture {number}"
        tasks.append(task)
        for picture in pictures:
            image = copy(picture)
            image.id, image.task_id = image_id(task.id, picture.index), task.id
            images.append(image)
    Task.objects.bulk_create(tasks, batch_size=1000)
    Image.objects.bulk_create(images, batch_size=2000)
    page = log_in(live, key_of(owner))
    page.goto(f"{live}/#gallery")
    page.wait_for_selector(".tile")
    return page


def tiles(page: Any) -> int:
    count: int = page.locator(".tile").count()
    return count


def test_ten_thousand_pictures_scroll_smoothly_and_are_filtered(page: Any) -> None:
    """Few of them are in the page at any time, and frames stay short while all are scrolled by."""
    long_frames = page.evaluate(
        """async (many) => {
        const grid = document.querySelector("window-grid");
        const until = Date.now() + 40000;
        let before = performance.now(), frames = 0, long = 0;
        while (grid.items.length < many && Date.now() < until) {
            grid.scrollTop = grid.scrollHeight;
            await new Promise(requestAnimationFrame);
            const now = performance.now();
            frames += 1;
            if (now - before > 100) long += 1;
            before = now;
        }
        return long / frames;
    }""",
        MANY,
    )
    assert page.evaluate("document.querySelector('window-grid').items.length") == MANY
    assert long_frames < 0.05
    assert tiles(page) < 200
    page.evaluate("document.querySelector('window-grid').scrollTop = 1e9")
    page.get_by_role("option", name="red circle").last.wait_for()

    page.locator("window-grid .tile").last.focus()
    page.keyboard.press("Home")
    until(page, "() => document.querySelector('window-grid').scrollTop === 0")
    page.keyboard.press("Control+a")
    assert "10000 selected" in page.locator(".selection b").inner_text()
    page.keyboard.press("Escape")
    began = time.monotonic()
    page.fill(".filters input[type=search]", "picture 123")
    until(page, "() => document.querySelector('window-grid').items.length === 44")
    assert time.monotonic() - began < 5
    page.keyboard.press("Tab")
    page.locator(".tile").first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    assert "2 selected" in page.locator(".selection b").inner_text()
    page.keyboard.press("Delete")
    until(page, "() => document.querySelector('window-grid').items.length === 40")
    page.click(".notice button")
    until(page, "() => document.querySelector('window-grid').items.length === 44")
    assert Task.objects.filter(deleted_at=None).count() == MANY // EACH

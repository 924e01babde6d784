"""The gallery as a light table: rubber band, marks, boards, comparing two, contact sheets."""

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image as Pillow

from fixtures.rows import finish
from generation.accounts.models import User
from generation.page.tests.browser.conftest import look, until
from generation.tasks.models import Board, Image, Task


@pytest.fixture
def page(
    live: str, owner: User, key_of: Callable[..., str], make_task: Callable[..., Task], log_in: Callable[..., Any]
) -> Any:
    for number in range(6):
        finish(make_task(text=f"picture {number}"), count=2)
    page = log_in(live, key_of(owner))
    page.goto(f"{live}/#gallery")
    page.wait_for_selector(".tile img")
    return page


def items(page: Any, count: int) -> None:
    """Waits until the gallery shows so many pictures."""
    until(page, "count => document.querySelector('window-grid').items.length === count", count)


def selected(page: Any) -> int:
    found: int = page.evaluate("document.querySelector('window-grid').selected.size")
    return found


def filtered(page: Any, name: str, value: str) -> None:
    page.get_by_role("combobox", name=name).select_option(value)


def test_pictures_are_selected_by_a_rubber_band(page: Any) -> None:
    boxes = [page.locator(".tile").nth(number).bounding_box() for number in (0, 2, 3)]
    start, middle, end = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes]
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*middle, steps=6)
    page.locator(".band:visible").wait_for()
    until(page, "() => document.querySelector('window-grid').selected.size === 3")
    page.mouse.up()
    assert page.locator("dialog").count() == 0, "no picture was opened"
    page.keyboard.down("Control")
    page.mouse.move(*end)
    page.mouse.down()
    page.mouse.move(end[0] + 20, end[1] + 20, steps=4)
    until(page, "() => document.querySelector('window-grid').selected.size === 4")
    page.mouse.up()
    page.keyboard.up("Control")
    page.locator(".tile").first.click()
    page.locator(".viewer").wait_for()


def test_pictures_are_approved_and_rejected_and_found_again(page: Any) -> None:
    page.locator(".tile").first.focus()
    page.keyboard.press("a")
    page.locator(".tile.approved").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.locator(".tile.rejected").wait_for()
    assert sorted(Image.objects.exclude(mark="").values_list("mark", flat=True)) == ["approved", "rejected"]
    filtered(page, "All marks", "approved")
    items(page, 1)
    page.locator(".tile").click()
    approve = page.locator(".viewer").get_by_role("button", name="Approve")
    assert approve.get_attribute("aria-pressed") == "true"
    approve.click()
    until(page, "() => document.querySelector('.viewer button[aria-pressed]').getAttribute('aria-pressed') === 'false'")
    page.keyboard.press("Escape")
    items(page, 0)
    filtered(page, "All marks", "unmarked")
    items(page, 11)


def test_two_are_compared_put_on_a_board_and_printed_on_a_sheet(page: Any) -> None:
    for number in (0, 3):
        page.locator(".tile .mark").nth(number).click()
    bar = page.get_by_role("toolbar")
    bar.get_by_role("button", name="Compare").click()
    slider = page.get_by_role("slider")
    slider.fill("20")
    assert page.locator(".compared").evaluate("stage => stage.style.getPropertyValue('--at')") == "20%"
    look(page, "compare")
    page.keyboard.press("Escape")

    bar.get_by_role("button", name="Put on a board").click()
    page.get_by_label("New board").fill("Spring")
    page.get_by_label("The team sees it").check()
    look(page, "boards")
    page.get_by_role("button", name="Create and put").click()
    page.get_by_text("2 images put on “Spring”").wait_for()
    board = Board.objects.get()
    assert (board.shared, board.pictures.count()) == (True, 2)

    bar.get_by_role("button", name="Contact sheet").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download a sheet of 2 images").click()
    assert download.value.suggested_filename == "contact-sheet.webp"
    assert Pillow.open(download.value.path()).size[0] == 2 * 272 + 16

    filtered(page, "All boards", board.public_id)
    items(page, 2)
    page.keyboard.press("Escape")
    page.locator(".tile .mark").first.click()
    bar.get_by_role("button", name="Take from the board").click()
    items(page, 1)
    assert selected(page) == 0
    filtered(page, "My images", "true")
    items(page, 1)

"""Tests of the page in a real Chromium. They run when TEST_BROWSER is set (`make test-browser`), beside the whole
product with the model that ships. What the browser complains about fails the test: errors and warnings of the console,
among them violations of the Content-Security-Policy; exceptions; requests to anybody else; answers of 400 and above but
for those that a test means to get.
"""

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from deploy.browser import chromium

WANTED = bool(os.environ.get("TEST_BROWSER"))
collect_ignore_glob = [] if WANTED else ["test_*.py"]
if WANTED:
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright runs its event loop in the thread of the tests
PATIENCE_MS = 30_000


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address in a browser of its own; what it complained about is looked at when the test ends."""
    contexts: list[Any] = []
    faults: list[str] = []

    def opened(
        url: str,
        *,
        width: int = 1280,
        height: int = 800,
        language: str = "en-US",
        dark: bool = False,
        refusals: tuple[int, ...] = (),
    ) -> Any:
        colours = "dark" if dark else "light"
        context = browser.new_context(
            viewport={"width": width, "height": height}, locale=language, color_scheme=colours, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        watch(page, urlsplit(url).netloc, faults, refusals)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def watch(page: Any, host: str, faults: list[str], refusals: tuple[int, ...]) -> None:
    """Notes what a page complains about."""

    def said(message: Any) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            faults.append(f"{message.type}: {message.text}")

    def asked(request: Any) -> None:
        found = urlsplit(request.url)
        if found.scheme in ("http", "https", "ws", "wss") and found.netloc != host:
            faults.append(f"a request to {found.netloc}")

    def answered(answer: Any) -> None:
        if answer.status >= 400 and answer.status not in refusals:
            faults.append(f"{answer.status} {answer.url} {answer.request.post_data or ''}"[:400])

    page.on("console", said)
    page.on("pageerror", lambda error: faults.append(f"exception: {error}"))
    page.on("request", asked)
    page.on("response", answered)


def until(page: Any, expression: str, value: Any = None) -> None:
    """Waits for a function of JavaScript to answer true. Playwright's own compiles texts, which our policy forbids."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(expression, value):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(50)


@pytest.fixture
def log_in(open_page: Callable[..., Any]) -> Callable[..., Any]:
    """Opens the page and logs in with a key."""

    def logged_in(url: str, key: str, **how: Any) -> Any:
        page = open_page(url, **how)
        page.click(".with-key summary")
        page.fill("#key", key)
        page.press("#key", "Enter")
        page.wait_for_selector(".make")
        return page

    return logged_in


@pytest.fixture
def studio(stack: Any, log_in: Callable[..., Any]) -> Callable[..., Any]:
    """The page of the running product, logged in as its demo user."""
    return lambda **how: log_in(stack.url, stack.api_key, **how)


def go(page: Any, screen: str) -> None:
    """Opens a screen by its address."""
    page.evaluate(f"location.hash = '#{screen}'")
    page.wait_for_selector({"create": ".make", "gallery": ".gallery", "batch": ".batch", "account": ".new-key"}[screen])


def look(page: Any, screen: str, *, axe: bool = True) -> None:
    """No barrier that axe finds, nothing beside the window; a picture of it where SCREENSHOTS names a folder."""
    from axe_playwright_python.sync_playwright import Axe

    page.wait_for_timeout(100)
    if folder := os.environ.get("SCREENSHOTS"):
        width = page.viewport_size["width"]
        name = f"{screen}.webp" if width == 1280 else f"{screen}-{width}.webp"
        Image.open(io.BytesIO(page.screenshot())).save(Path(folder) / name, quality=80, method=6)
    found = Axe().run(page, options=_AXE).response["violations"] if axe else []
    told = [(one["id"], one["impact"], [node["html"][:160] for node in one["nodes"][:3]]) for one in found]
    assert told == [], f"{screen}: {json.dumps(told, indent=1, ensure_ascii=False)}"
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{screen} is {wide} px wider than the window"


_AXE = {"resultTypes": ["violations"]}  # what passes is not described, which takes axe longer than to find it

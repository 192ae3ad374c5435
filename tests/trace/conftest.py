"""Fixtures of the tests of pages: a browser without network access."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, or skipped tests; with GLASSCELL_REQUIRE_BROWSER=1, or failed ones."""
    missing, chromium = None, shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - optional
    except ImportError:
        missing = "Playwright is not installed: pip install playwright"
    if chromium is None:
        missing = "Chromium is not installed: apt-get install chromium"
    if missing and os.environ.get("GLASSCELL_REQUIRE_BROWSER"):
        pytest.fail(f"{missing}; and GLASSCELL_REQUIRE_BROWSER is set")
    if missing:
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_html(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Open HTML from a file, offline; at the end nothing was fetched, and nothing is on the console."""
    contexts, wrong = [], []

    def open_html(html: str, width: int = 1280, height: int = 900, **options: Any) -> Any:
        file = tmp_path / "report.html"
        file.write_text(html, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.url == file.as_uri() or wrong.append(f"asked for {request.url}"))
        page.goto(file.as_uri())
        return page

    yield open_html
    for context in contexts:
        context.close()
    assert wrong == []

"""Fixtures of the tests of pages: a browser without network access, and Node."""

import json
import os
import re
import shutil
import subprocess
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


class OfflinePage:
    """A page of the browser without network access, which shows one file after another.

    A separate page for each test would take five times as long to open.

    Attributes
    ----------
    page : Page
    wrong : list of str
        What the page that is open fetched or wrote to the console.
    """

    def __init__(self, browser: Any) -> None:
        context = browser.new_context(offline=True)
        context.set_default_timeout(10_000)
        self.page, self.wrong, self._address = context.new_page(), list[str](), ""
        self.page.on("console", lambda message: self.wrong.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._check_request)

    def _check_request(self, request: Any) -> None:
        if not request.url.startswith((self._address, "blob:")):  # the script of a worker is a blob of the page
            self.wrong.append(f"asked for {request.url}")

    def open(self, file: Path, width: int, height: int, color_scheme: str) -> None:
        """Open a file, as a new page would do."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(color_scheme=color_scheme)
        self.page.mouse.move(0, 0)
        self._address = file.as_uri()
        self.page.goto(self._address)

    def clear(self) -> list[str]:
        """Close the file, and return what was wrong with it."""
        self._address = "about:blank"
        self.page.goto(self._address)
        wrong, self.wrong = self.wrong, []
        return wrong


@pytest.fixture(scope="session")
def offline_pages() -> list[OfflinePage]:
    """Pages that the tests have used."""
    return []


@pytest.fixture
def open_html(browser: Any, offline_pages: list[OfflinePage], tmp_path: Path) -> Iterator[Open]:
    """Open HTML from a file, offline; at the end nothing was fetched, and nothing is on the console."""
    used = 0

    def open_html(html: str, width: int = 1280, height: int = 900, color_scheme: str = "light") -> Any:
        nonlocal used
        if used == len(offline_pages):
            offline_pages.append(OfflinePage(browser))
        offline, used = offline_pages[used], used + 1
        file = tmp_path / f"report{used}.html"
        file.write_text(html, encoding="utf-8")
        offline.open(file, width, height, color_scheme)
        if '<html lang="en" data-theme=' in html:  # a report, which has all its sections soon after the first frame
            offline.page.locator("html.ready").wait_for(state="attached")
        return offline.page

    yield open_html
    assert [wrong for offline in offline_pages[:used] for wrong in offline.clear()] == []


@pytest.fixture(scope="session")
def node() -> str:
    """Node, or skipped tests; with GLASSCELL_REQUIRE_BROWSER=1, or failed ones."""
    found = shutil.which("node")
    if found is None and os.environ.get("GLASSCELL_REQUIRE_BROWSER"):
        pytest.fail("Node is not installed, and GLASSCELL_REQUIRE_BROWSER is set")
    if found is None:
        pytest.skip("Node is not installed: it runs the tests of the page's JavaScript")
    return found


@pytest.fixture
def run_web_tests(node: str, tmp_path: Path) -> Callable[[str, dict[str, Any]], int]:
    """Run the tests of a folder of web/ in Node on cases by name: none fails, none is skipped. Return their number."""

    def run_web_tests(folder: str, cases: dict[str, Any]) -> int:
        for name, case in cases.items():
            file_name = re.sub(r"[^\w ]", "", name)
            (tmp_path / f"{file_name}.json").write_text(json.dumps(case), encoding="utf-8")
        assert len(list(tmp_path.iterdir())) == len(cases)
        files = sorted((Path(__file__).parent / "web" / folder).glob("*.test.mjs"))
        environment = os.environ | {"GLASSCELL_CASES": str(tmp_path)}
        command = [node, "--test", "--test-reporter=tap", *map(str, files)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        print(done.stdout if done.returncode else "".join(re.findall(r"^# (?!Subtest).*\n", done.stdout, re.MULTILINE)))
        assert done.returncode == 0
        assert re.search(r"^# skipped 0$", done.stdout, re.MULTILINE)
        return int(re.findall(r"^# pass (\d+)$", done.stdout, re.MULTILINE)[0])

    return run_web_tests

"""Open a report in headless Chromium: take screenshots, and measure its size and frame rate.

Needs Debian's chromium, and `pip install playwright`. Pictures go to build/screenshots: 390, 900 and 1280 pixels wide,
light and dark. Frames are counted while the slider of time moves by one step in each of them; on a busy machine the
time that the processor gives to the page's thread says more.

    python benchmarks/report_page.py [--out FOLDER] [--steps 3000] [--speed-only]
"""

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import glasscell as gc
from glasscell.trace.html_report.page import page
from glasscell.trace.html_report.payload import payload_of
from glasscell.trace.trace import Trace

FRAMES_A_SECOND = 30  # what scrubbing must stay above
MOVE = """async () => {
  const slider = document.querySelector("#step");
  const times = [];
  for (let n = 0; n < 120; n++) {
    slider.value = (Number(slider.value) + 1) % (Number(slider.max) + 1);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    times.push(await new Promise(requestAnimationFrame));
  }
  return times.slice(1).map((time, n) => time - times[n]);
}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/screenshots"))
    parser.add_argument("--steps", type=int, default=3000, help="of training before the pictures")
    parser.add_argument("--speed-only", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if not given.speed_only:
            for path in take_pictures(browser, given.out, given.steps):
                print(path)
        measure_copy(browser, given.out)
        measure_first_view(playwright.chromium, given.out / "copy-32.html")
        slow = [name for name, trace in sizes().items() if measure(browser, given.out, name, trace) < FRAMES_A_SECOND]
        browser.close()
    return 1 if slow else 0


def take_pictures(browser: Any, out: Path, steps: int) -> Iterator[Path]:
    """Take screenshots of the pages of an 8-bit copy model, of two bidirectional layers, and of a language model."""
    model = gc.CopyLSTM(hidden_size=32, seed=0)
    gc.fit(model, model.task, updates=steps)
    rng = np.random.default_rng(0)
    both = gc.LSTM(3, 16, 2, bidirectional=True).trace(rng.normal(size=(24, 3)), rng.normal(size=(24, 32)))
    text = "the cat sat on the mat, and the dog sat on the log.\n"
    data = gc.data.TextData(text * 60, steps=20, streams=10)
    language_model = gc.LanguageModel(data.vocabulary, 16, 32)
    gc.fit(language_model, data, updates=steps)
    traces = {"copy": model.trace([1, 1, 0, 1, 0, 0, 1, 0]), "both": both, "text": language_model.trace(text * 3)}
    for name, trace in traces.items():
        file = write(out, name, trace)
        for width in (1280, 900, 390):
            for scheme in ("light", "dark"):
                window = browser.new_page(
                    viewport={"width": width, "height": 900}, color_scheme=scheme, device_scale_factor=1
                )
                window.goto(file.as_uri())
                path = out / f"{name}-{width}-{scheme}.png"
                window.screenshot(path=path, full_page=True)
                yield path
                window.locator("#backward").click()
                path = out / f"{name}-{width}-{scheme}-backward.png"
                window.screenshot(path=path, full_page=True)
                window.close()
                yield path


FLIP = """async () => {
  const bits = document.querySelectorAll("button[data-bit]");
  for (let n = 0; n < 48; n++) {
    bits[n % bits.length].click();
    await new Promise(requestAnimationFrame);
  }
}"""


def measure_copy(browser: Any, out: Path) -> None:
    """Print the times until the first view, the sentence and the maps of a copy model, and that of a flipped bit."""
    file = write(out, "copy-32", gc.CopyLSTM(hidden_size=32, seed=0).trace([1, 1, 0, 1, 0, 0, 1, 0]))
    window = browser.new_page(viewport={"width": 1280, "height": 900})
    for _ in range(3):
        window.goto(file.as_uri())
        window.locator("html[data-surveyed]").wait_for(state="attached")
        maps = window.evaluate("performance.now()")
        paint = window.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        print(f"8 bits, 32 units: first view after {paint:.0f} ms, maps over all inputs after {maps:.0f} ms")
    session = window.context.new_cdp_session(window)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    window.wait_for_timeout(2000)
    before = thread_time(session)
    window.evaluate(FLIP)
    print(f"a flipped bit: {(thread_time(session) - before) / 48 * 1e3:.1f} ms on the page's thread, drawing included")
    window.close()


def measure_first_view(chromium: Any, file: Path) -> None:
    """Print the times until the first view of the first page of new browsers."""
    times = []
    for _ in range(5):
        browser = chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 1280, "height": 900})
        window.goto(file.resolve().as_uri())
        window.locator("html[data-surveyed]").wait_for(state="attached")
        times.append(window.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        browser.close()
    print(f"first page of a new browser: {min(times):.0f} ms, median {np.median(times):.0f} ms")


def sizes() -> dict[str, Trace]:
    rng = np.random.default_rng(0)

    def trace(T: int, H: int, layers: int) -> Trace:
        x, y = rng.normal(size=(T, 2)), rng.normal(size=(T, H))
        return gc.LSTM(2, H, layers).trace(x, y, title=f"T = {T}, H = {H}, {layers} layers")

    return {"T40-H32": trace(40, 32, 1), "T200-H128": trace(200, 128, 1), "T200-H128-L2": trace(200, 128, 2)}


def measure(browser: Any, out: Path, name: str, trace: Trace) -> float:
    """Print the file's size, the times to build and to open it, frames per second, and the time per frame."""
    start = time.perf_counter()
    file = write(out, name, trace)
    built = time.perf_counter() - start
    window = browser.new_page(viewport={"width": 1280, "height": 900})
    start = time.perf_counter()
    window.goto(file.as_uri())
    loaded = time.perf_counter() - start
    session = window.context.new_cdp_session(window)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = thread_time(session)
    times = np.array(window.evaluate(MOVE))
    of_frame = (thread_time(session) - before) / len(times)
    window.close()
    print(
        f"{name}: {file.stat().st_size / 1e3:.0f} kB, built in {built:.2f} s, there after {loaded:.2f} s, scrubbing "
        f"{1e3 / times.mean():.0f} frames a second, of {1e3 * of_frame:.1f} ms each on the page's thread"
    )
    return float(1e3 / times.mean())


def thread_time(session: Any) -> float:
    """Return the processor time of the page's main thread, in seconds."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(float(metric["value"]) for metric in metrics if metric["name"] == "TaskDuration")


def write(folder: Path, name: str, trace: Trace) -> Path:
    path = (folder / f"{name}.html").resolve()
    path.write_text(page(payload_of(trace)), encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())

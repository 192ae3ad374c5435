"""Measure the sections of a report that compute: an ablation over all inputs, and training in the page, in Chromium.

Needs Debian's chromium, and `pip install playwright`. An ablation is the time from an event of the slider to the
sentence with its result, over 256 inputs of 17 steps with 32 units: on a busy machine the least time says more than the
median. Training is that of the defaults, four bits with 16 units, until all bits of all inputs are right; then the
processor time of the page's thread per picture of it is printed. While two models train, frames that take longer than
50 ms are counted.

    python benchmarks/report_sections.py [--out FOLDER] [--rounds 20]
"""

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import glasscell as gc
from glasscell.trace.html_report.page import page
from glasscell.trace.html_report.payload import payload_of

ABLATION_MS, TRAINING_SECONDS, FRAME_MS = 100, 60, 50
PATIENCE = 120_000  # milliseconds
ABLATE = """async rounds => {
  const [slider, finding] = ["#break-scale", "#break-finding"].map(id => document.querySelector(id));
  const times = [];
  for (let n = 0; n < rounds; n++) {
    const start = performance.now();
    const told = new Promise(resolve => {
      const observer = new MutationObserver(() => { observer.disconnect(); resolve(); });
      observer.observe(finding, { childList: true, characterData: true, subtree: true });
    });
    slider.value = n % 2 ? 0.9 : 0.8;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await told;
    times.push(performance.now() - start);
  }
  return times;
}"""
COUNT = """() => {
  window.pictures = 0;
  const observer = new MutationObserver(() => window.pictures++);
  observer.observe(document.querySelector("#live-finding"), { childList: true, characterData: true, subtree: true });
}"""

FRAMES = """() => {
  window.frameTimes = [];
  let last = performance.now();
  requestAnimationFrame(function count(now) {
    window.frameTimes.push(now - last);
    last = now;
    requestAnimationFrame(count);
  });
}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    from playwright.sync_api import sync_playwright

    file = (given.out / "report_sections.html").resolve()
    model = gc.CopyLSTM(hidden_size=32, seed=0)
    file.write_text(page(payload_of(model.trace([1, 1, 0, 1, 0, 0, 1, 0]))), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 1280, "height": 900})
        window.goto(file.as_uri())
        times = measure_ablation(window, given.rounds)
        training, frame = measure_training(window)
        frames, result = measure_comparison(window)
        browser.close()
    print(f"ablation over 256 inputs: {times.min():.0f} ms, median {np.median(times):.0f} ms")
    print(f"training to 100 %: {training:.1f} s")
    print(f"the page's thread works {frame:.1f} ms per picture of the training")
    long = int((frames > FRAME_MS).sum())
    print(f"two models: {long} of {len(frames)} frames over {FRAME_MS} ms in {frames.sum() / 1e3:.1f} s; {result}")
    return 0 if times.min() < ABLATION_MS and training < TRAINING_SECONDS and frame < FRAME_MS else 1


def measure_ablation(window: Any, rounds: int) -> NDArray[np.float64]:
    """Return the times of ablations in milliseconds, after the curve and the units have been measured."""
    window.locator("#break-it").scroll_into_view_if_needed()
    window.locator("#break-worst", has_text="matters most").wait_for(timeout=PATIENCE)
    return np.array(window.evaluate(ABLATE, rounds))


def measure_training(window: Any) -> tuple[float, float]:
    """Return the seconds until training pauses, and the milliseconds of the page's thread per picture."""
    window.locator("#live-training").scroll_into_view_if_needed()
    window.locator("#live-finding", has_text="untrained").wait_for(timeout=PATIENCE)
    session = window.context.new_cdp_session(window)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    window.evaluate(COUNT)
    busy, start = thread_seconds(session), time.perf_counter()
    window.locator("#live-start").click()
    window.locator("#live-start", has_text="Continue").wait_for(timeout=PATIENCE)
    seconds, busy = time.perf_counter() - start, thread_seconds(session) - busy
    return seconds, 1e3 * busy / max(1, window.evaluate("window.pictures"))


def measure_comparison(window: Any) -> tuple[NDArray[np.float64], str]:
    """Return the milliseconds of each frame while two models train, and the first sentence of the result."""
    window.locator("#comparison").scroll_into_view_if_needed()
    finding = window.locator("#compare-finding")
    window.locator("#compare-finding", has_text="Before training").wait_for(timeout=PATIENCE)
    window.evaluate(FRAMES)
    window.locator("#compare-start").click()
    window.locator("#compare-start", has_text="Train again").wait_for(timeout=PATIENCE)
    return np.array(window.evaluate("window.frameTimes")), str(finding.inner_text()).partition(". ")[0]


def thread_seconds(session: Any) -> float:
    """Return the processor time of the page's main thread, in seconds."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(float(metric["value"]) for metric in metrics if metric["name"] == "TaskDuration")


if __name__ == "__main__":
    sys.exit(main())

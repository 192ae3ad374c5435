"""Law: a report trains models in the page: the sections "Train a model" and "Two models"."""

import re
from typing import Any

import numpy as np

import glasscell as gc
from glasscell.trace.html_report import page as document
from glasscell.trace.html_report.payload import payload_of

PATIENCE = 60_000  # milliseconds


def report(open_html: Any) -> Any:
    model = gc.CopyLSTM(4, dtype=np.float64, task=gc.tasks.Copy(width=2))
    return open_html(document.page(payload_of(model.trace([1, 0]))))


def fill(page: Any, values: dict[str, str]) -> None:
    for name, value in values.items():
        page.locator(f"#{name}").fill(value)
        page.locator(f"#{name}").press("Enter")


def test_a_model_learns_to_copy_in_the_page(open_html: Any) -> None:
    page = report(open_html)
    finding = page.locator("#live-finding")
    page.locator("#live-training").scroll_into_view_if_needed()
    page.locator("#live-finding", has_text="The untrained LSTM with 16 units").wait_for()
    page.locator("#live-start").click()
    assert page.workers  # training does not keep the page's thread from drawing
    page.evaluate("scrollTo(0, 0)")
    page.locator("#live-start", has_text="Continue").wait_for(state="attached", timeout=PATIENCE)
    assert "100 %" not in str(finding.text_content())  # what is not on the screen is not drawn
    page.locator("#live-training").scroll_into_view_if_needed()
    page.locator("#live-finding", has_text="100 % of the bits").wait_for()
    assert "100 % of the bits of all 16 inputs are right" in finding.inner_text()
    assert page.locator("#live-training canvas").count() == 6
    page.locator("#live-kind").select_option("gru")  # a new model
    page.locator("#live-finding", has_text="The untrained GRU").wait_for()
    assert page.locator("#live-start").inner_text() == "Start"
    fill(page, {"live-bits": "1", "live-units": "8", "live-delay": "9"})
    page.locator("#live-start").click()
    fill(page, {"live-clip": "0.5"})
    page.locator("#live-start", has_text="Continue").wait_for(timeout=PATIENCE)
    assert "GRU" in finding.inner_text()
    assert "100 % of the bits of all 2 inputs are right" in finding.inner_text()
    page.locator("#live-bits").fill("99")
    page.locator("#live-bits").press("Enter")
    assert page.locator("#live-bits").input_value() == "1"
    page.locator("#live-reset").click()
    page.locator("#live-finding", has_text="The untrained GRU").wait_for()


def test_two_models_train_side_by_side(open_html: Any) -> None:
    page = report(open_html)
    assert page.locator("#compare-finding").text_content() == "Press Train both."  # nothing is measured yet
    page.locator("#comparison").scroll_into_view_if_needed()
    finding = page.locator("#compare-finding")
    page.locator("#compare-finding", has_text="tanh RNN, it vanishes").wait_for()
    assert re.match(r"LSTM: \d+ % of the bits are right before training\. tanh RNN: \d+ % ", finding.inner_text())
    fill(page, {"compare-forgetBias": "0"})  # a field: the default, 3, keeps the gradient of the LSTM
    page.locator("#compare-finding", has_text="(LSTM, it vanishes)").wait_for()
    fill(page, {"compare-forgetBias": "3"})
    fill(page, {"compare-bits": "1", "compare-units": "6", "compare-delay": "4", "compare-limit": "300"})
    for pair in page.locator("#compare-pair option").all_text_contents():
        page.locator("#compare-pair").select_option(pair)
        page.locator("#compare-start", has_text="Train both").wait_for()
    page.locator("#compare-pair").select_option("LSTM and tanh RNN")
    fill(page, {"compare-bits": "2", "compare-delay": "90", "compare-limit": "100"})
    top = page.locator("#compare-start").evaluate("e => e.offsetTop")
    page.locator("#compare-start").click()
    page.locator("#compare-start", has_text="Pause").click()
    page.locator("#compare-start", has_text="Continue").click()
    guess = "With 90 random bits to ignore the tanh RNN only guesses: "
    page.locator("#compare-finding", has_text=guess).wait_for(timeout=PATIENCE)
    page.locator("#compare-start", has_text="Train again").wait_for(timeout=PATIENCE)
    assert page.locator("#compare-start").evaluate("e => e.offsetTop") == top  # the sentence does not move it
    fill(page, {"compare-bits": "1", "compare-delay": "4", "compare-limit": "300"})
    page.locator("#compare-pair").select_option("LSTM, untrained and trained")
    page.locator("#compare-start").click()
    page.locator("#compare-finding", has_text="trained: 100 % of the bits are right").wait_for(timeout=PATIENCE)
    assert page.workers
    assert "untrained: " in finding.inner_text()
    assert "after 0 updates" in finding.inner_text()
    page.locator("#compare-quantity").select_option("hidden")
    assert "NaN" not in page.locator("#comparison").inner_text()
    assert page.locator("#comparison canvas").count() == 2
    page.locator("#compare-pair").select_option("the model of this report and a new GRU")
    page.locator("#compare-finding", has_text="(the model of this report, as it is)").wait_for()
    assert page.locator("#compare-bits").input_value() == "2"  # the task that it copies
    page.locator("#compare-start").click()
    page.locator("#compare-finding", has_text="GRU: 100 % of the bits are right").wait_for(timeout=PATIENCE)
    assert "The model of this report: " in finding.inner_text()
    page.locator("#compare-pair").select_option("LSTM, two seeds")
    assert page.locator("#compare-delay").input_value() == "4"

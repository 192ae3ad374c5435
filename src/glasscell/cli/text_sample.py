"""Implement ``glasscell text sample``: write text with a language model, as it is drawn."""

import argparse
import os
import sys

from glasscell.escaping import escape
from glasscell.models.language_model import LanguageModel
from glasscell.validation import integer


def run(options: argparse.Namespace) -> None:
    """Print the prompt and its continuation."""
    if options.seed is not None and integer("seed", options.seed) < 0:
        raise ValueError(f"--seed must be at least 0, got {options.seed}")
    model = LanguageModel.load(options.model)
    # Bytes of the command line that are not UTF-8 are a part of a prompt of bytes.
    prompt = os.fsencode(options.prompt) if model.vocabulary.unit == "bytes" else options.prompt
    texts = model.sample(
        prompt, options.length, temperature=options.temperature, top_k=options.top_k, seed=options.seed
    )
    out = sys.stdout
    is_terminal = out.isatty()
    out.write(options.prompt)
    for text in texts:
        out.write(_printable(text) if is_terminal else text)
        out.flush()
        if getattr(out, "error", None) is not None:  # such as `head`, which closes the pipe early
            return
    out.write("\n")


def _printable(text: str) -> str:
    """Return text without the control characters that a terminal obeys, except line ends and tabs."""
    return text if text.isprintable() or text in "\n\t" else "".join(c if c in "\n\t" else escape(c) for c in text)

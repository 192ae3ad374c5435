"""Implement ``glasscell text score``: how well a language model predicts text files."""

import argparse
import sys

from glasscell.data.text.files import BYTE_ORDER_MARK, TextFiles
from glasscell.escaping import escape
from glasscell.models.language_model import LanguageModel
from glasscell.models.language_scores import score_ids


def run(options: argparse.Namespace) -> None:
    """Print loss, perplexity and the most surprising passages."""
    model = LanguageModel.load(options.model)
    vocabulary = model.vocabulary
    # A model with these characters was trained on text with line ends and byte order mark as they were.
    keeps = vocabulary.unit == "characters" and ("\r" in vocabulary or BYTE_ORDER_MARK in vocabulary)
    source = TextFiles(options.files, vocabulary.unit, normalize=not keeps)
    ids = source.encode(vocabulary)
    total, shows = len(ids), sys.stderr.isatty()

    def progress(done: int) -> None:
        if shows:
            sys.stderr.write(f"\r{done / total:4.0%}")
            sys.stderr.flush()

    score = score_ids(
        model,
        vocabulary,
        ids,
        streams=options.streams,
        passages=options.passages,
        width=options.width,
        progress=progress,
    )
    if shows:
        sys.stderr.write("\r    \r")
    unit = vocabulary.unit.removesuffix("s")
    print(f"{score.symbols:,} {vocabulary.unit} predicted, of {total:,}\n")
    print(f"nats per {unit:<10} {score.nats:.4f}")
    print(f"bits per {unit:<10} {score.bits:.4f}")
    print(f"{'perplexity':<19} {score.perplexity:.4g}")
    if score.passages:
        print(f"\nMost surprising passages, in nats per {unit}, with the position of their first {unit}:\n")
        digits = len(f"{total:,}")
        for passage in score.passages:
            text = escape(passage.text.replace("\n", "↵"))
            print(f"  {passage.nats:6.3f}   {passage.start:>{digits},}   {text}")

"""Format results as plain text."""

from __future__ import annotations

from collections.abc import Iterator

from speed.results import Benchmark, Ratio, Row, Spread, spread

WIDTHS = (24, 10)


def lines(benchmark: Benchmark) -> Iterator[str]:
    """Yield the lines of a benchmark: times, ratios, means, and the sizes at which another library is faster."""
    yield benchmark.title
    ours = list(
        dict.fromkeys(
            implementation.name
            for row in benchmark.rows
            for implementation in row.implementations
            if implementation.ours
        )
    )
    if benchmark.rows:
        heads = "".join(f"  {f'/ {name}':<22}" for name in ours)
        yield f"  {'':<{WIDTHS[0]}}{'median':>{WIDTHS[1]}}{heads}  setting".rstrip()
    for row in benchmark.rows:
        yield f" {row.what}"
        yield from _row_lines(row, ours)
    yield from (f"  {what:<64}{value:>12,.4g} {unit}".rstrip() for what, value, unit in benchmark.metrics)
    yield from (f"  {name}: {why}" for name, why in benchmark.absent.items())
    yield from (f"  {sentence}" for sentence in (*_means(benchmark), *slower(benchmark)))


def _row_lines(row: Row, ours: list[str]) -> Iterator[str]:
    ratios = {(ratio.ours, ratio.peer): ratio for ratio in row.ratios()}
    for implementation in row.implementations:
        cells = [
            describe(ratios[name, implementation.name].spread) if (name, implementation.name) in ratios else ""
            for name in ours
        ]
        memory = "" if implementation.peak_mb is None else f", peak {implementation.peak_mb:.0f} MB"
        own = duration(spread(implementation.seconds).median)
        yield (
            f"  {implementation.name:<{WIDTHS[0]}}{own:>{WIDTHS[1]}}"
            + "".join(f"  {cell:<22}" for cell in cells)
            + f"  {implementation.setting}{memory}"
        )


def _means(benchmark: Benchmark) -> Iterator[str]:
    if len(benchmark.rows) > 1:
        for ours, peer, mean, least in benchmark.means():
            yield f"{peer} takes {mean:.2f} times as long as {ours} (geometric mean; least {least:.2f})"


def slower(benchmark: Benchmark) -> Iterator[str]:
    """Yield a sentence for each pair in which another library is faster."""
    found: dict[tuple[str, str], list[tuple[str, Ratio]]] = {}
    for row in benchmark.rows:
        for ratio in row.ratios():
            if ratio.spread.median < 1 and not ratio.peer.startswith("import "):  # which is no peer, but the floor
                found.setdefault((ratio.ours, ratio.peer), []).append((row.what, ratio))
    for (ours, peer), cases in found.items():
        where = ", ".join(f"{what}: {ratio.spread.median:.2f}" for what, ratio in cases)
        yield f"{peer} is FASTER than {ours} at {where}"


def describe(of: Spread) -> str:
    """Format a spread: 1.63 (1.60 to 1.70)."""
    return f"{of.median:.2f} ({of.low:.2f} to {of.high:.2f})"


def duration(seconds: float) -> str:
    """Format a duration in s, ms or µs."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"

"""The results as plain text."""

from __future__ import annotations

from collections.abc import Iterator

from glasscell.bench.results import Race, Ratio, Row, Spread, spread

WIDTHS = (24, 10)


def lines(race: Race) -> Iterator[str]:
    """A race: everyone's times, ratios, means, and where a peer is the faster."""
    yield race.title
    ours = list(dict.fromkeys(side.name for row in race.rows for side in row.sides if side.ours))
    if race.rows:
        heads = "".join(f"  {f'/ {name}':<22}" for name in ours)
        yield f"  {'':<{WIDTHS[0]}}{'median':>{WIDTHS[1]}}{heads}  setting".rstrip()
    for row in race.rows:
        yield f" {row.what}"
        yield from _of_row(row, ours)
    yield from (f"  {what:<64}{value:>12,.4g} {unit}".rstrip() for what, value, unit in race.figures)
    yield from (f"  {name}: {why}" for name, why in race.absent.items())
    yield from (f"  {sentence}" for sentence in (*_means(race), *slower(race)))


def _of_row(row: Row, ours: list[str]) -> Iterator[str]:
    ratios = {(ratio.ours, ratio.peer): ratio for ratio in row.ratios()}
    for side in row.sides:
        cells = [in_words(ratios[name, side.name].spread) if (name, side.name) in ratios else "" for name in ours]
        memory = "" if side.peak_mb is None else f", peak {side.peak_mb:.0f} MB"
        own = duration(spread(side.seconds).median)
        yield (
            f"  {side.name:<{WIDTHS[0]}}{own:>{WIDTHS[1]}}"
            + "".join(f"  {cell:<22}" for cell in cells)
            + f"  {side.setting}{memory}"
        )


def _means(race: Race) -> Iterator[str]:
    if len(race.rows) > 1:
        for ours, peer, mean, least in race.means():
            yield f"{peer} takes {mean:.2f} times as long as {ours} (geometric mean; least {least:.2f})"


def slower(race: Race) -> Iterator[str]:
    """Where a peer is the faster, for each pair a sentence."""
    found: dict[tuple[str, str], list[tuple[str, Ratio]]] = {}
    for row in race.rows:
        for ratio in row.ratios():
            if ratio.spread.median < 1 and not ratio.peer.startswith("import "):  # which is no peer, but the floor
                found.setdefault((ratio.ours, ratio.peer), []).append((row.what, ratio))
    for (ours, peer), cases in found.items():
        where = ", ".join(f"{what}: {ratio.spread.median:.2f}" for what, ratio in cases)
        yield f"{peer} is FASTER than {ours} at {where}"


def in_words(of: Spread) -> str:
    """1.63 (1.60 to 1.70)."""
    return f"{of.median:.2f} ({of.low:.2f} to {of.high:.2f})"


def duration(seconds: float) -> str:
    """Of a size that people read."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"

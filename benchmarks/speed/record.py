"""Results as JSON. The same results make the same file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from speed.results import Benchmark, Spread, spread

FORMAT = 1


def record(benchmarks: Sequence[Benchmark], machine: dict[str, Any], turns: int) -> dict[str, Any]:
    """Return all measurements in types of JSON.

    Returns
    -------
    dict
        ``format``, ``machine``, ``turns`` and ``races``: by kind ``title``, ``rows`` (``what``; ``sides`` with
        ``setting``, ``seconds`` and perhaps ``peak_mb``; ``ratios``, peer over ours), ``geometric_means``, ``figures``
        and ``absent``. A spread has ``median`` and the quartiles ``low`` and ``high``.
    """
    return {
        "format": FORMAT,
        "machine": machine,
        "turns": turns,
        "races": {benchmark.kind: _benchmark(benchmark) for benchmark in benchmarks},
    }


def to_json(recorded: dict[str, Any]) -> str:
    """Return the record as indented JSON."""
    return json.dumps(recorded, indent=1, ensure_ascii=False) + "\n"


def _benchmark(benchmark: Benchmark) -> dict[str, Any]:
    return {
        "title": benchmark.title,
        "rows": [
            {
                "what": row.what,
                "sides": {implementation.name: _side(implementation) for implementation in row.implementations},
                "ratios": [{"ours": ours, "peer": peer, **_spread(own)} for ours, peer, own in row.ratios()],
            }
            for row in benchmark.rows
        ],
        "geometric_means": [
            {"ours": ours, "peer": peer, "mean": _rounded(mean), "least": _rounded(least)}
            for ours, peer, mean, least in benchmark.means()
        ],
        "figures": [{"what": what, "value": _rounded(value), "unit": unit} for what, value, unit in benchmark.metrics],
        "absent": benchmark.absent,
    }


def _side(implementation: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"setting": implementation.setting, "seconds": _spread(spread(implementation.seconds))}
    if implementation.peak_mb is not None:
        found["peak_mb"] = _rounded(implementation.peak_mb)
    return found


def _spread(of: Spread) -> dict[str, float]:
    return {name: _rounded(value) for name, value in of._asdict().items()}


def _rounded(value: float) -> float:
    """Round to four digits; further digits are noise."""
    return float(f"{value:.4g}")

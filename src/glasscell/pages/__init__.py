"""Self-contained HTML pages. The templates in this folder are built from ``web/`` by ``make web``; do not edit them."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def render_page(name: str, **parts: str) -> str:
    """Return a page with its placeholders replaced.

    Parameters
    ----------
    name : str
        ``"report"``, ``"film"`` or ``"verify"``.
    **parts : str
        HTML for each placeholder; the caller escapes text. Placeholders inside the parts are not replaced.
    """
    template = (files("glasscell.pages") / f"{name}.html").read_text(encoding="utf-8")
    return PLACEHOLDER.sub(lambda match: parts[match[1]], template)


def script_json(value: Any) -> str:
    """Return JSON without ``<``, so that ``</script>`` and ``<!--`` inside a script element cannot occur.

    Raises
    ------
    ValueError
        If the value has NaN or an infinity, which JSON does not support.
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", r"\u003c")

"""Build the HTML pages of Glasscell: one self-contained template per page, from the sources in this folder.

Each folder with a ``body.html`` is a page: ``style.css`` and then the other CSS files by name; if the page computes
something, the ECMAScript modules from ``app.js`` on. ``shared/`` holds modules of several pages, ``shell.html`` the
parts that every page has. A built page is package data of :mod:`glasscell.pages`, which replaces its remaining
placeholders at run time, such as ``{{title}}``. Only the Python standard library is needed.

    python web/build.py
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from bundle import PLACEHOLDER, bundle, read, read_modules
from compact import compact_css

__all__ = ["build", "bundle", "compact_css", "read_modules"]

SOURCES = Path(__file__).parent
OUTPUT = SOURCES.parent / "src" / "glasscell" / "pages"
ENTRY = "app.js"
# By page: the text of its <title>, and attributes of its <html>.
PAGES = {
    "report": ("{{title}}", ' data-theme="light" data-mode="forward"'),
    "film": ("{{title}}: training", ""),
    "verify": ("Glasscell: {{subject}}, verified", ""),
}


def build(page: str) -> str:
    """Return a page as one HTML template."""
    folder, (title, attributes) = SOURCES / page, PAGES[page]
    parts = {
        "html_title": title,
        "html_attributes": attributes,
        "style": _styles(folder),
        "body": re.sub(r"\n +", "\n", (folder / "body.html").read_text(encoding="utf-8")).rstrip(),
        "script": _scripts(folder),
    }
    shell = (SOURCES / "shell.html").read_text(encoding="utf-8")
    return PLACEHOLDER.sub(lambda match: parts[match[1]], shell)


def _styles(folder: Path) -> str:
    """Return the CSS files of a page as one: ``style.css`` first, then the others by name."""
    paths = sorted(folder.glob("*.css"), key=lambda path: (path.name != "style.css", path.name))
    return "\n".join(compact_css(read(path)) for path in paths)


def _scripts(folder: Path) -> str:
    """Return the script elements of a page: its data, and the bundled modules."""
    if not (folder / ENTRY).exists():
        return ""
    payload = '<script type="application/json" id="payload">{{payload}}</script>'
    return f"{payload}\n<script>{bundle(folder / ENTRY)}</script>\n"


def main() -> int:
    for page in PAGES:
        path = OUTPUT / f"{page}.html"
        path.write_text(build(page), encoding="utf-8")
        print(f"{path.relative_to(SOURCES.parent)}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""HTML that all pages are made of; a page is one self-contained file."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path

from fastvid.data.storage.remote import without_secrets
from fastvid.names import spelled

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin: 2em 0 .5em; }
.sub { color: #627282; margin-top: .2em; } .good { color: #1d7a5f; } .bad { color: #b3323f; }
table { border-collapse: collapse; margin: .5em 0; } td, th { padding: .25em .8em; text-align: left; }
th { border-bottom: 1px solid #9aa5b1; font-weight: 600; } tr:nth-child(even) td { background: #f4f6f8; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; } .big { font-size: 1.3em; margin: .8em 0 .2em; }
img, svg, video { max-width: 100%; height: auto; }
pre { background: #f4f6f8; padding: 1em; overflow-x: auto; font-size: 12px; }
.beside { display: flex; flex-wrap: wrap; gap: 0 2em; align-items: flex-start; } .beside > div { flex: 0 1 auto; }
.beside > div:last-child { flex: 1 1 420px; max-width: max-content; } .beside figure { margin: 0; }
figure { margin: 1em 0; } figcaption { color: #627282; }
"""


def document(title: str, sections: Sequence[str]) -> str:
    """Return a whole HTML page.

    Args:
        title: plain text, for the browser's tab.
        sections: HTML, in order.
    """
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{text(title)}</title>"
        f"<style>{_STYLE}</style></head><body>{''.join(sections)}</body></html>\n"
    )


def section(title: str, content: str) -> str:
    """Return a section with a heading, or nothing where ``content`` is empty."""
    return f"<h2>{title}</h2>{content}" if content else ""


def beside(*parts: str) -> str:
    """Return the parts of a page side by side where there is room."""
    return f"<div class='beside'>{''.join(f'<div>{part}</div>' for part in parts if part)}</div>"


def pre(value: dict) -> str:
    """Return JSON text that a click shows."""
    return f"<details><summary>show</summary><pre>{text(without_secrets(json.dumps(value, indent=1)))}</pre></details>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table of HTML cells. Columns in ``numbers`` are aligned right."""

    def line(cells: Sequence[str], kind: str) -> str:
        parts = (f"<{kind}{' class=n' if i in numbers else ''}>{cell}</{kind}>" for i, cell in enumerate(cells))
        return f"<tr>{''.join(parts)}</tr>"

    top = line(head, "th") if head else ""
    return f"<table>{top}{''.join(line(cells, 'td') for cells in rows)}</table>"


def picture(title: str, path: Path) -> str:
    """Embed a PNG file in the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f"<figure><img alt='{text(title)}' src='data:image/png;base64,{data}'><figcaption>{text(title)}</figcaption>"
        "</figure>"
    )


def video(title: str, path: Path) -> str:
    """Embed an MP4 file in the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f"<figure><video controls loop muted src='data:video/mp4;base64,{data}'></video><figcaption>{text(title)}"
        "</figcaption></figure>"
    )


def text(value: object) -> str:
    """Escape a value as HTML text."""
    return html.escape(spelled(value), quote=True)

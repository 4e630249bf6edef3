"""A self-contained HTML page: no scripts, no network, readable on a phone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light; --line: #d8dde3; --ink: #1f2933; --quiet: #5b6773; --accent: #2b6cb0; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  color: var(--ink); background: #fff; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.5rem; padding-bottom: 0.2rem; border-bottom: 2px solid var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; font-size: 0.9rem; }
a { color: var(--accent); }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; display: block; }
figcaption, .quiet { color: var(--quiet); font-size: 0.9rem; }
.note { color: var(--quiet); font-size: 0.8rem; line-height: 1.3; }
.scroll { overflow-x: auto; }
@media (max-width: 40rem) {
  .wide img { max-width: none; width: 42rem; }
  .wide + figcaption::after { content: " Scroll sideways."; }
  th, td { padding-right: 0.5rem; }
}
table { border-collapse: collapse; font-size: 0.9rem; min-width: 50%; }
th, td { text-align: left; padding: 0.25rem 0.75rem 0.25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: break-word; }
.facts td:last-child { overflow-wrap: anywhere; }
@media print { nav { display: none; } h2, figure { break-inside: avoid; } }
"""


class Page:
    """Collects parts in order; all text is escaped."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._lead = ""
        self._sections: list[str] = []
        self._parts: list[str] = []

    def lead(self, text: str) -> None:
        """The line under the title."""
        self._lead = text

    def section(self, title: str) -> None:
        """Start a section."""
        self._sections.append(title)
        self._parts.append(f'<h2 id="s{len(self._sections)}">{escape(title)}</h2>')

    def text(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(f'<p class="quiet">{escape(text)}</p>')

    def bullets(self, items: Iterable[str]) -> None:
        """A list."""
        self._parts.append("<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>")

    def facts(self, rows: Iterable[Sequence[str]]) -> None:
        """A table of names and values, of which long ones break anywhere."""
        self.table(["what", "value"], rows, kind="facts")

    def table(
        self, head: Sequence[str], rows: Iterable[Sequence[str]], notes: Mapping[str, str] | None = None, *, kind: str = "numbers"
    ) -> None:
        """A table that scrolls by itself where it is wider than the screen; `notes` explain the first cell of a row."""
        notes = notes or {}

        def row_html(row: Sequence[str]) -> str:
            note = f'<div class="note">{escape(notes[row[0]])}</div>' if notes.get(row[0]) else ""
            return "<tr>" + "".join(f"<td>{escape(cell)}{note if i == 0 else ''}</td>" for i, cell in enumerate(row)) + "</tr>"

        header = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
        body = "".join(map(row_html, rows))
        self._parts.append(f'<div class="scroll"><table class="{kind}"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>')

    def picture(self, webp_base64: str, caption: str, *, wide: bool = False) -> None:
        """A WebP with its caption, which is also its text for screen readers; a `wide` one scrolls on a phone instead of shrinking."""
        picture = f'<img alt="{escape(caption)}" src="data:image/webp;base64,{webp_base64}">'
        self._parts.append(
            f'<figure><div class="scroll{" wide" if wide else ""}">{picture}</div><figcaption>{escape(caption)}</figcaption></figure>'
        )

    def html(self) -> str:
        """The whole page."""
        links = "".join(f'<a href="#s{i}">{escape(title)}</a>' for i, title in enumerate(self._sections, start=1))
        return "\n".join(
            [
                "<!doctype html>",
                '<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                # an empty icon: browsers would otherwise ask a server for one
                '<link rel="icon" href="data:,">',
                f"<title>{escape(self._title)}</title><style>{_STYLE}</style></head><body>",
                f"<h1>{escape(self._title)}</h1><p>{escape(self._lead)}</p><nav>{links}</nav>",
                *self._parts,
                "</body></html>",
                "",
            ]
        )

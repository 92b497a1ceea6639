"""A small writer of SVG: shapes, text, and nothing that needs a library.

Colours are the reader's: text and axes take `currentColor`, and a style sheet in the picture follows a
dark page.
"""

from xml.sax.saxutils import escape, quoteattr

_STYLE = ("text{font:12px system-ui,sans-serif;fill:#222}.small{font-size:10px}.title{font-size:15px;font-weight:600}"
          ".axis{stroke:#888;stroke-width:1}.grid{stroke:#ddd;stroke-width:1}.page{fill:#fff}"
          "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}.page{fill:#16181c}}")


class Picture:
    """One picture; shapes lie over those drawn before."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self._width, self._height, self._title = width, height, title
        self._parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Draw a filled rectangle."""
        self._parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
                           f'fill={quoteattr(colour)}/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, *, kind: str = "", colour: str = "") -> None:
        """Draw a line in the style `kind` (axis, grid) or in a colour."""
        how = f'class={quoteattr(kind)}' if kind else f'stroke={quoteattr(colour)} stroke-width="2"'
        self._parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {how}/>')

    def dot(self, x: float, y: float, colour: str) -> None:
        """Draw a small disc."""
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill={quoteattr(colour)}/>')

    def text(self, x: float, y: float, words: str, *, anchor: str = "start", kind: str = "") -> None:
        """Write words; `anchor` is start, middle or end."""
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class={quoteattr(kind)}>'
                           f'{escape(words)}</text>')

    def render(self) -> str:
        """Return the whole picture."""
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self._width:.0f} {self._height:.0f}" '
            f'width="{self._width:.0f}" height="{self._height:.0f}" role="img">',
            f"<title>{escape(self._title)}</title>", f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{self._width:.0f}" height="{self._height:.0f}"/>', *self._parts, "</svg>", ""])

"""A whole page in a frame of another, as notebooks and documents show it."""

from __future__ import annotations

from html import escape

from msgspec import Struct

__all__ = ["EmbeddedPage"]

HEIGHT = 600  # pixels


class EmbeddedPage(Struct, frozen=True):
    """A page of its own, shown in a frame that lets its script run and nothing else.

    Args:
        html: the whole page.
        height: of the frame, in pixels.
        name: what the frame is called for those who hear it.
    """

    html: str
    height: int = HEIGHT
    name: str = "backward pass"

    @classmethod
    def of_height(cls, html: str, height: str, name: str) -> EmbeddedPage:
        """Return a page with a height as documents say it: in pixels; in other units it is the usual one."""
        number = height.removesuffix("px")
        return cls(html, int(number) if number.isdecimal() else HEIGHT, name or "backward pass")

    def frame(self) -> str:
        """Return the frame, to put into HTML as it is."""
        size = f"width:100%;height:{self.height}px;border:1px solid #94a3b8;border-radius:6px"
        page = escape(self.html).replace("\n", "&#10;")  # Markdown and minifiers leave one line as it is
        return f'<iframe title="{escape(self.name)}" sandbox="allow-scripts" style="{size}" srcdoc="{page}"></iframe>'

    def _repr_html_(self) -> str:
        return self.frame()

    def __repr__(self) -> str:
        """Return a line that says what it is."""
        return f"<gradtrace page of {self.name}, {len(self.html):,} characters>"

"""The page as a format, found by its entry point: formats stand below the viewer and know nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.formats.base import register

if TYPE_CHECKING:
    from gradtrace.formats.base import Style
    from gradtrace.model import Report

__all__ = ["render"]


@register("html", ".html", ".htm", whole=True)
def render(report: Report, style: Style) -> str:
    """Interactive page of all passes, in one file that needs no network."""
    from gradtrace.viewer.page import page  # noqa: PLC0415 - whoever draws something else need not wait for it
    from gradtrace.viewer.whole import whole  # noqa: PLC0415

    return page(whole(report, style.timeout))

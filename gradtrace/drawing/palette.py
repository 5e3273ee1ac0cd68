"""The colours of the picture, each for a light and a dark page.

Magnitude is one hue from pale to strong, which the colour-blind see as light to dark (dark to light on a
dark page). What is not a magnitude has a colour and a line style of its own, and words.
"""

from __future__ import annotations

__all__ = [
    "BORDER",
    "CARD",
    "DARK",
    "FAILED",
    "FILL",
    "FONT",
    "INK",
    "INVERSE",
    "LINE",
    "MONO",
    "MUTED",
    "PAGE",
    "SPECIAL",
    "WARNED",
    "step",
]

FONT, MONO = "Helvetica,Arial,sans-serif", "Menlo,Consolas,monospace"

INK, MUTED, INVERSE = "#0f172a", "#5b6779", "#fffffe"
PAGE, CARD = "#ffffff", "#f8fafc"
BORDER = {"function": "#94a3b8", "output": "#0f766e", "leaf": "#1d4ed8"}
FAILED, WARNED = "#b42318", "#8a5a00"
FILL = ("#fff3d6", "#ffe3a3", "#fecb6e", "#fdae4b", "#f9903a")  # behind ink
LINE = ("#c9a36a", "#c08431", "#b16416", "#984a0b", "#743306")  # on the page
SPECIAL = {"none": "#8b96a5", "zero": "#64748b", "unknown": "#64748a", "inf": "#a21caf", "nan": "#d0103a"}

# On a dark page each of the above becomes this; in the SVG a style sheet swaps them.
DARK = {
    INK: "#e6edf3",
    MUTED: "#97a3b4",
    INVERSE: "#0d1117",
    PAGE: "#0d1117",
    CARD: "#161d27",
    "#94a3b8": "#4b5a6e",
    "#0f766e": "#2dd4bf",
    "#1d4ed8": "#6ea8fe",
    FAILED: "#ff7b72",
    WARNED: "#f2cc60",
    **dict(zip(FILL, ("#33291a", "#4a3616", "#634310", "#7c500c", "#945a06"), strict=True)),
    **dict(zip(LINE, ("#75603c", "#9a7836", "#c2922f", "#e5ad36", "#ffd166"), strict=True)),
    "#8b96a5": "#7d8896",
    "#64748b": "#9aa7b8",
    "#64748a": "#9aa7b7",
    "#a21caf": "#f07bff",
    "#d0103a": "#ff6b88",
}


def step(share: float, ramp: tuple[str, ...]) -> str:
    """Return the colour of a ramp at ``share`` of its way, 0 to 1.

    >>> step(0.0, ("pale", "strong")), step(1.0, ("pale", "strong"))
    ('pale', 'strong')
    """
    return ramp[min(len(ramp) - 1, int(share * len(ramp)))]

"""The palette, as readers see it who tell fewer colours apart."""

from itertools import pairwise

import pytest

from gradtrace.drawing.palette import CARD, DARK, FILL, INK, LINE, MUTED, PAGE, SPECIAL

# Severity 1 of Machado, Oliveira and Fernandes (2009), on linear RGB; the last is the plain eye's.
EYES = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}


def seen(color, eye):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return [min(1, max(0, sum(w * c for w, c in zip(row, linear, strict=True)))) for row in EYES[eye]]


def light(color, eye="usual"):
    """The relative luminance, as WCAG has it."""
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), seen(color, eye), strict=True))


def contrast(one, two):
    dark, bright = sorted((light(one), light(two)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("ramp", [FILL, LINE])
def test_a_larger_gradient_is_darker_to_every_eye_and_brighter_on_a_dark_page(ramp, eye):
    on_light = [light(color, eye) for color in ramp]
    assert all(later < 0.95 * earlier for earlier, later in pairwise(on_light))
    on_dark = [light(DARK[color], eye) for color in ramp]
    assert all(later > 1.05 * earlier for earlier, later in pairwise(on_dark))


@pytest.mark.parametrize("page", [lambda color: color, DARK.get], ids=["light", "dark"])
def test_all_text_can_be_read_on_what_it_stands_on(page):
    for ground in (*FILL, CARD, PAGE):
        assert contrast(page(INK), page(ground)) > 3  # in bold
    for color in (MUTED, *SPECIAL.values()):
        assert contrast(page(color), page(PAGE)) > 2.9

import xml.etree.ElementTree as ET

from gradtrace.drawing.page import Frame, inline
from gradtrace.formats.base import FORMATS, Style
from tests import builders

SVG = str(FORMATS["svg"].function(builders.report(), Style()))


def parsed(frame):
    return ET.fromstring(inline(SVG, frame))


def test_a_picture_in_a_page_keeps_all_its_texts_and_tooltips():
    tag = "{http://www.w3.org/2000/svg}"
    texts = [[element.text for element in ET.fromstring(svg).iter(f"{tag}text")] for svg in (SVG, inline(SVG))]
    assert texts[0] == texts[1]
    titles = [sum(1 for _ in ET.fromstring(svg).iter(f"{tag}title")) for svg in (SVG, inline(SVG))]
    assert titles[0] - titles[1] == 1  # that of the whole, which would lie over all others


def test_words_of_the_document_take_the_place_of_ours_escaped():
    assert parsed(Frame(alt='a "graph" <of> f')).get("aria-label") == 'a "graph" <of> f'
    assert "<of>" not in inline(SVG, Frame(alt="a <of>"))


def test_a_width_that_was_asked_for_is_never_exceeded_by_the_least():
    assert "width:80px" in parsed(Frame(width="80px")).get("style")
    assert "min-width:min(" in parsed(Frame(width="80px")).get("style")


def test_each_dark_rule_is_bound_to_a_page_that_is_dark():
    for line in inline(SVG).splitlines():
        if line.startswith(".gradtrace"):
            assert "#e6edf3" not in line
    assert "prefers-color-scheme" not in inline(SVG, Frame(dark=False))


def test_a_picture_without_our_style_sheet_is_left_as_it_is():
    assert inline('<svg width="10pt"><text>x</text></svg>').count("<text>x</text>") == 1

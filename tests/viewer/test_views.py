"""The views of a pass: laid out, complete, and the same each time."""

import json

import pytest

from gradtrace.errors import UnknownNameError
from gradtrace.viewer.views import ALL, Views
from tests.builders import partials
from tests.viewer.networks import blocks


@pytest.fixture(scope="module")
def views():
    return Views(blocks())


def test_a_small_pass_is_shown_as_recorded():
    view = Views(partials()).view()
    assert {box["key"] for box in view["boxes"]} == {node.id for node in partials().nodes}
    assert sorted(edge for line in view["lines"] for edge in line["edges"]) == list(range(len(partials().edges)))


def test_boxes_do_not_overlap(views):
    for key in ("", ALL, *views.keys()):
        places = [box["at"] for box in views.view(key)["boxes"]]
        for i, (x, y, w, h) in enumerate(places):
            assert all(x >= a + c or a >= x + w or y >= b + d or b >= y + h for a, b, c, d in places[i + 1 :])


def test_lines_begin_and_end_at_their_boxes(views):
    view = views.view()
    place = {box["key"]: box["at"] for box in view["boxes"]}
    for line in view["lines"]:
        for key, (px, py) in ((line["from"], line["points"][:2]), (line["to"], line["points"][-2:])):
            x, y, w, h = place[key]
            assert x - 8 <= px <= x + w + 8
            assert y - 8 <= py <= y + h + 8


def test_every_view_can_be_told_in_json(views):
    for key in ("", ALL, *views.keys()):
        json.dumps(views.view(key), allow_nan=False)


def test_a_fold_that_is_not_there_is_an_error(views):
    with pytest.raises(UnknownNameError):
        views.view("module_n999_4")


def test_two_makings_give_the_same():
    assert Views(blocks()).view() == Views(blocks()).view()

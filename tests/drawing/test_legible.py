"""Every picture can be read without zooming: sizes in pixels of a screen, measured on the SVG; no time is."""

import sys
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

import gradtrace
from gradtrace.api import report_of, select
from gradtrace.drawing import fitting
from gradtrace.drawing.digraph import folded_for
from gradtrace.drawing.style import Style
from gradtrace.errors import EngineError
from gradtrace.fold import View
from gradtrace.formats.base import FORMATS
from tests import builders

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from architectures import ARCHITECTURES
from figures import figures, labels, overflowing

A4, MARGIN = (794, 1123), 38  # CSS pixels: 210 and 297 millimetres, and one centimetre
SMALLEST = 12  # pixels of the smallest text in its own size, which is 9 points


@pytest.fixture(scope="module")
def reports():
    """The report of each architecture, recorded once."""
    found = {}

    def report(name):
        if name not in found:
            torch.manual_seed(0)
            with gradtrace.record() as recording:
                ARCHITECTURES[name]().backward()
            found[name] = report_of(recording.trace, select(recording.trace))
        return found[name]

    return report


def svg(report, **style):
    return FORMATS["svg"].function(report, Style(**style))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_on_a_screen_the_smallest_text_is_nine_pixels_and_the_picture_two_and_a_half_widths(reports, name):
    picture = svg(reports(name))
    found = figures(picture)
    assert found.smallest >= 9
    assert found.shape <= 2.5
    assert found.boxes >= 9
    assert found.crossings <= 4
    assert not list(overflowing(picture))
    labelled = labels(picture)
    assert labelled
    for label in labelled:
        assert label.own < 1 < label.other


@pytest.mark.parametrize("name", ["resnet-50", "bilstm-cells", "pinn"])
def test_on_a_page_of_paper_it_can_be_read_as_well(reports, name):
    across, down = (size - 2 * MARGIN for size in A4)
    found = figures(svg(reports(name), page=True))
    scale = min(1, across / found.width, down / found.height)
    assert scale * SMALLEST >= 9
    assert found.boxes >= (4 if name == "bilstm-cells" else 7)


def test_thirty_equal_layers_are_one_repetition_with_its_curve_and_one_of_them_open(reports):
    (run,) = [box for box in folded_for(reports("mlp-30")).boxes if box.kind == "run"]
    assert run.count >= 28
    assert len(run.summary.curve) == run.count
    shown = [box for box in folded_for(reports("mlp-30")).boxes if box.kind in {"node", "op"}]
    assert sum(folded_for(reports("mlp-30")).graph.by_id[box.nodes[0]].op == "SigmoidBackward0" for box in shown) >= 1


def test_shared_weights_are_in_the_boxes_of_their_module(reports):
    folded = folded_for(reports("bilstm-twice"))
    assert folded.shared
    assert not any(folded.graph.by_id[box.nodes[0]].kind == "leaf" for box in folded.boxes)


def test_in_the_first_picture_each_number_stands_on_its_own_line():
    found = {label.edge: label for label in labels(svg(builders.report()))}
    assert len(found) == 9
    assert all(label.own < 1 for label in found.values())
    assert found["n2->n5"].other > 10  # the 2 of u*v -> v, which was nearer to the edge of u**2 -> u


def test_where_there_is_no_engine_to_measure_with_there_are_few_boxes(reports, monkeypatch):
    def missing(*_):
        raise EngineError("there is no Graphviz to draw with")

    report = reports("gan")
    monkeypatch.setattr(fitting, "measured", missing)
    fresh = replace(report, graph=replace(report.graph))
    assert 5 <= len(folded_for(fresh).boxes) <= 40
    assert str(FORMATS["mermaid"].function(fresh, Style())).startswith("flowchart TD")


def test_who_names_a_number_of_boxes_gets_as_many(reports):
    folded = folded_for(reports("gan"), Style(view=View(max_nodes=100)))
    assert not folded.is_folded
    assert len(folded_for(reports("resnet-50"), Style(view=View(max_nodes=100))).boxes) > 60

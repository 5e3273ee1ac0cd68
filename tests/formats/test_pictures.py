import pytest

from gradtrace.errors import EngineError
from gradtrace.formats.base import FORMATS, Style
from gradtrace.model import BackwardPass
from tests import builders


def dense(size, reach=24):
    """Each of its nodes leads to the next ``reach``: the graph that layered layouts fear most."""
    nodes = [builders.function(f"n{i}", "CatBackward0", "torch.cat(all)", 1.0, order=i) for i in range(size)]
    ends = [(i, j) for i in range(size) for j in range(i + 1, min(size, i + reach))]
    edges = [builders.edge(f"n{i}", f"n{j}", 1.0) for i, j in ends]
    return BackwardPass(1, "backward", tuple(nodes), tuple(edges))


@pytest.mark.parametrize(("name", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_a_picture_is_of_the_kind_that_its_name_says(name, start):
    assert FORMATS[name].function(builders.report(), Style()).startswith(start)


@pytest.mark.parametrize("name", ["png", "pdf"])
def test_a_picture_is_the_same_from_run_to_run(name):
    draw = FORMATS[name].function
    assert draw(builders.report(), Style()) == draw(builders.report(), Style())


@pytest.mark.parametrize("name", ["svg", "png", "pdf"])
def test_a_picture_can_be_made_from_other_dot(name):
    assert FORMATS[name].function(builders.report(), Style(dot="digraph { a -> b }"))


@pytest.mark.parametrize("name", ["svg", "png", "pdf"])
def test_the_limit_on_time_holds(name):
    with pytest.raises(EngineError, match="took more than"):
        FORMATS[name].function(builders.report(), Style(timeout=0.001))


def test_the_worst_of_graphs_is_drawn_within_its_time_limit():
    assert "2,000 nodes in" in FORMATS["svg"].function(builders.report(dense(2000)), Style())

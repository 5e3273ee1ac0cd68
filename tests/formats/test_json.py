"""The json format: the trace itself."""

from gradtrace.formats.base import FORMATS, Style
from gradtrace.tracefile import loads
from tests.builders import partials, report, trace


def test_it_holds_the_whole_trace_and_is_read_back():
    assert loads(FORMATS["json"].function(report(), Style())) == trace(partials())


def test_it_stands_for_both_endings():
    assert FORMATS.for_suffix("run.json").name == FORMATS.for_suffix("run.json.gz").name == "json"

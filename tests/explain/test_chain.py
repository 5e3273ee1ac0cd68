"""The chain rule, node by node, on a pass made by hand."""

from __future__ import annotations

import pytest

from gradtrace.explain.chain import steps
from gradtrace.explain.explanation import explain
from gradtrace.explain.formats.terminal_text import text
from gradtrace.explain.formulas import pinned
from tests.builders import partials


def by_id(graph):
    return {step.node.id: step for step in steps(graph, pinned())}


def test_where_paths_meet_the_sum_tells_what_each_brought():
    assert "∂f/∂v = 2 (through u*v) + 48 (through v**3) = 50" in text(explain(partials()))


def test_a_power_has_its_formula_with_the_values_put_in():
    (flow,) = by_id(partials())["n4"].terms
    assert (flow.formula, flow.local, flow.filled, flow.number) == ("grad · n · vⁿ⁻¹", "n · vⁿ⁻¹", "3 · 4²", 48.0)


def test_the_local_derivative_times_what_came_in_is_what_went_out():
    for step in steps(partials(), pinned()):
        for flow in step.terms:
            assert flow.number * step.node.grads[0].values == pytest.approx(flow.edge.grad.values)


def test_nodes_come_in_backward_order_and_leaves_last():
    kinds = [step.node.kind for step in steps(partials(), pinned())]
    assert kinds == ["output", *["function"] * 5, "leaf", "leaf"]


def test_a_trace_without_calls_says_why_there_is_no_formula_of_the_whole():
    assert "the trace holds no calls" in text(explain(partials()))

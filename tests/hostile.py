"""Text that a script or a trace may hold, to the harm of whoever shows it; and a trace that is full of it."""

from __future__ import annotations

from gradtrace.model import (
    BackwardPass,
    Edge,
    ErrorInfo,
    Fact,
    LeafSeries,
    ModuleCall,
    Node,
    SavedTensor,
    Source,
    TensorStats,
    Trace,
)

HOSTILE = [
    "\x1b[2J\x1b]0;title\a", "\x7f\x9b31m", "a\u202eb\u2066c\u2069", "&nbsp;&#0;&lt;", "<!-- --> ]]> </script>",
    "\0", "\\", "\\n\\l\\", "%%{init: {}}%%", "$\\input{x}$ \\end{document}", "a\nb\r\nc\u2028d", "\ud800",
    "\ufffe\uffff", "`x` | **y**", "](javascript:x)", "<b onclick=x>", "#quot;#35;", '"', "'", "{{x}}",
    "\u00e9\u65e5\u672c\U0001f600", "x" * 30_000, " ", "\t", "---", "=", "[^1]: x", "^^M~", "\u00ad\u200b\ufeff",
    "\N{LATIN SMALL LETTER A}\N{COMBINING ACUTE ACCENT}",
]  # fmt: skip


def trace_of(text):
    """A trace that has this text wherever there can be one."""
    where = Source(text, 3, 3, 0, 5, text, text)
    stats = TensorStats((2,), text, text, 1.0, 0.5, 0.0, 1.0, values=[0.0, 1.0])
    odd = TensorStats((2,), text, "cpu", note=text)
    nodes = (
        Node("n0", "output", "output", text, values=(stats,), grads=(stats,)),
        Node(
            "n1", "function", text, text, text, 0, where, where, (stats,), (stats, odd),
            (SavedTensor(text, (2,), text),), {text: text, "list": [text, [text]]}, 0, 0.5,
        ),
        Node("n2", "function", "SqrtBackward0", text, text, 1, where, None, (odd,), (stats,), order=1),
        Node("n3", "leaf", "AccumulateGrad", text, values=(stats,), grads=(TensorStats((2,), nan=1),), order=2),
        Node("n4", "leaf", text, text, values=(odd,), grads=(None,)),
    )  # fmt: skip
    links = (("n0", "n1", stats), ("n1", "n2", stats), ("n2", "n3", TensorStats((2,), nan=1)), ("n1", "n4", None))
    facts = (Fact("cut", (), where, {"how": text}), Fact("held", ("n3",), where, {"passes": 2}))
    graph = BackwardPass(
        1, "backward", nodes, tuple(Edge(a, b, grad=grad) for a, b, grad in links), where,
        calls=(ModuleCall(text, text), ModuleCall(f"{text}.{text}", text, 0)), error=ErrorInfo(text, text, where, "n2"),
        facts=facts,
    )  # fmt: skip
    return Trace(
        1, (text, text), {"torch": text}, (graph,), (LeafSeries(text, (2,), [1], [1.0], [True]),),
        ErrorInfo(text, text, where), (Fact("raised", data={"messages": [text]}),),
    )  # fmt: skip

"""Ways in which a value loses its graph, in words."""

from __future__ import annotations

__all__ = ["EXITS", "way"]

_WAYS = {
    "no_grad": "was computed under torch.no_grad()",
    "detach": "was detached",
    "data": "was taken from .data",
    "grad": "gives gradients without a graph, as create_graph=True was not asked for",
    "lost-grad": "gave a gradient without a graph, though create_graph=True was asked for",
    "item": "left torch as a plain number by .item()",
    "tolist": "left torch as plain numbers by .tolist()",
    "numpy": "left torch as an array by .numpy()",
    "__array__": "left torch as an array",
    "__float__": "left torch as a plain number by float()",
    "__int__": "left torch as a plain number by int()",
    "Parameter": "was made a parameter by nn.Parameter(), which begins a graph of its own",
    "Variable": "was made a tensor of its own by Variable(), which takes the values and not the graph",
    "data=": "was put into the .data of another tensor, which takes the values and not the graph",
    "tensor": "was copied by torch.tensor(), which takes the values and not the graph",
}
EXITS = {"item", "tolist", "numpy", "__array__", "__float__", "__int__"}  # where a value leaves torch
_INTEGERS = {"long", "int", "short", "byte", "char", "bool"}


def way(how: str) -> str:
    """Return the verb phrase for a value, from the name of the call that cut its graph.

    >>> way("detach"), way("argmax")
    ('was detached', 'went through argmax, which has no derivative')
    """
    if how in _INTEGERS:
        return f"was made integer by .{how}(), which has no derivative"
    return _WAYS.get(how) or f"went through {how.strip('_')}, which has no derivative"

"""Inside torch's own layers of layers each op has the line that made it, with the user's behind."""

import pytest
import torch
from torch import nn

import gradtrace


def functions(make):
    with gradtrace.record() as recording:
        make().backward()
    return [node for node in recording.trace.passes[-1].nodes if node.kind == "function"]


def lines(nodes):
    return {node.library.text for node in nodes if node.library}


def test_a_transformer_s_layers_show_their_own_lines():
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    nodes = functions(lambda: encoder(torch.randn(2, 3, 8)).sum())
    inside = [node for node in nodes if node.module.startswith("encoder.layers")]
    assert inside
    assert all(node.library and node.source.text == "encoder(torch.randn(2, 3, 8))" for node in inside)
    assert {"self.linear1(x)", "x + self._ff_block(x)"} <= lines(inside)


def test_a_distribution_shows_its_formula():
    mean = torch.zeros(3, requires_grad=True)
    nodes = functions(lambda: torch.distributions.Normal(mean, 1.0).log_prob(torch.ones(3)).sum())
    assert "(value - self.loc) ** 2" in lines(nodes)


@pytest.mark.parametrize("layer", [nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.GRU(3, 3)])
def test_a_layer_that_the_user_calls_needs_no_line_but_the_user_s(layer):
    nodes = functions(lambda: layer(torch.ones(2, 3))[0].sum())
    assert not lines(nodes)

"""The hooks of a pass: gone when it has ended, and never in the way of the script's own."""

import msgspec
import torch

from gradtrace import tracefile
from gradtrace.recording.recorder import Recorder


def chain(length=3):
    x = torch.tensor(2.0, requires_grad=True)
    y = x
    for _ in range(length):
        y = y * 3
    return x, y


def test_a_script_can_hook_a_node_that_was_watched():
    _, y = chain()
    with Recorder():
        y.backward(retain_graph=True)
    seen = []
    handle = y.grad_fn.register_hook(lambda _, arriving: seen.append(arriving[0].item()))
    y.backward(retain_graph=True)
    handle.remove()
    y.backward()
    assert seen == [1.0]


def test_a_hook_of_the_script_stays_while_ours_go():
    _, y = chain()
    seen = []
    y.grad_fn.register_hook(lambda _, arriving: seen.append(arriving[0].item()))
    with Recorder():
        y.backward(retain_graph=True)
    y.backward()
    assert seen == [1.0, 1.0]


def test_registering_is_as_torch_has_it_afterwards():
    before = torch.autograd.function._HookMixin.__dict__["_register_hook"]
    with Recorder():
        chain()[1].backward()
    assert torch.autograd.function._HookMixin.__dict__["_register_hook"] is before
    assert "_register_hook" not in vars(type(torch.autograd.Function))


def test_a_gradient_that_a_hook_changed_in_place_is_measured_again():
    x = torch.tensor(2.0, requires_grad=True)
    y = x * 3
    y.register_hook(lambda grad: grad.mul_(5) and None)
    with Recorder() as recorder:
        (y * 2).backward()
    node = next(n for n in recorder.trace.passes[0].nodes if n.name == "y")
    assert node.grads[0].values == 10.0
    assert x.grad.item() == 30.0


def test_gradients_that_meet_are_measured_as_their_sum():
    for size in (1, 100):
        x = torch.rand(size, requires_grad=True)
        y = x * 3
        loss = (y + y.sin() + y * y + y.view(-1)).sum()
        (expected,) = torch.autograd.grad(loss, y, retain_graph=True)
        with Recorder() as recorder:
            loss.backward()
        node = next(n for n in recorder.trace.passes[0].nodes if n.name == "y")
        assert node.grads[0].max == expected.max().item()
        assert node.grads[0].min == expected.min().item()


def test_a_trace_in_pieces_is_the_trace_at_once():
    _, y = chain(3000)
    with Recorder() as recorder:
        y.backward()
    trace = recorder.trace
    assert tracefile.dumps(trace) == msgspec.json.encode(trace) + b"\n"
    assert tracefile.loads(tracefile.dumps(trace)) == trace

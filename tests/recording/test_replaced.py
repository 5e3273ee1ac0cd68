"""Functions of torch that the script has replaced by wrappers: each runs once, with the arguments it was given."""

from __future__ import annotations

import inspect
import types
import warnings
from functools import wraps

import pytest
import torch
from torch.nn import functional as F

from gradtrace.recording.recorder import Recorder

OWNERS = {
    "torch": torch, "torch.functional": torch.functional, "torch.nn.functional": F, "torch.nn.init": torch.nn.init,
    "torch.autograd": torch.autograd, "torch.Tensor": torch.Tensor,
}  # fmt: skip
SIGNATURES = torch.overrides.get_testing_overrides()
METHODS = (types.MethodDescriptorType, types.WrapperDescriptorType)


def replaceable(owner):
    """The names of functions that hand themselves over, and of the methods that do."""
    known = vars(torch._C.TensorBase) if owner is torch.Tensor else vars(owner)
    both = {**known, **vars(owner)}
    found = [name for name, value in both.items() if isinstance(value, types.FunctionType) and value in SIGNATURES]
    found += [name for name, value in both.items() if isinstance(value, METHODS) and value in SIGNATURES]
    found += ["backward", "grad"] if owner is torch.autograd else []
    return sorted(set(found) - {"__init__", "__new__", "__getattribute__", "__setattr__", "__del__", "__reduce_ex__"})


def arguments(function):
    """What a function needs at least, all of it tensors: most raise in the end, and then the same as without us."""
    signature = SIGNATURES.get(function) or function
    try:
        parameters = inspect.signature(signature).parameters.values()
    except ValueError:
        parameters = ()
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    needed = [each for each in parameters if each.default is each.empty and each.kind in kinds]
    return [torch.full((2, 2), 0.5, requires_grad=True) for _ in needed or (0,)]


def outcome(function, given):
    torch.manual_seed(0)
    try:
        result = function(*given)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
        return type(error), str(error)
    tensors = result if isinstance(result, (tuple, list)) else [result]
    return type(result), [told(each) for each in tensors]


def told(result):
    try:
        return result.tolist() if type(result) is torch.Tensor else type(result)
    except RuntimeError:
        return result.shape, result.layout  # it has no elements


def wrapped(owner, name, calls):
    """The owner's function, and a wrapper of it that notes each call."""
    original = getattr(owner, name)

    @wraps(original, assigned=())
    def wrapper(*args, **kwargs):
        calls.append((len(args), sorted(kwargs)))
        return original(*args, **kwargs)

    return original, wrapper


@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS)
def test_a_function_that_is_replaced_by_a_wrapper_runs_it_once_and_does_the_same(owner, step, monkeypatch, counted):
    names, different = replaceable(owner), {}
    for name in names[::step]:
        calls = []
        original, wrapper = wrapped(owner, name, calls)
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patch.setattr(owner, name, wrapper)
            expected, plain = outcome(lambda *a, n=name: getattr(owner, n)(*a), arguments(original)), calls[:]
            calls.clear()
            with Recorder():
                found = outcome(lambda *a, n=name: getattr(owner, n)(*a), arguments(original))
        if repr(found) != repr(expected) or calls != plain:  # NaN is not equal to itself
            different[name] = (expected, found, plain, calls)
    counted(**{"functions replaced": len(names[::step])})
    assert different == {}
    assert len(names) > 1


def test_a_wrapper_of_a_method_runs_once_for_each_call(monkeypatch):
    calls = []
    original, wrapper = wrapped(torch.Tensor, "sin", calls)
    monkeypatch.setattr(torch.Tensor, "sin", wrapper)
    x = torch.ones(2, requires_grad=True)
    with Recorder() as recorder:
        x.sin().sum().backward()
    assert len(calls) == 1
    assert [node.op for node in recorder.trace.passes[0].nodes][2] == "SinBackward0"
    assert torch.equal(x.grad, original(x.detach() + torch.pi / 2)) or torch.allclose(x.grad, torch.cos(x))


def test_a_wrapper_that_leaves_defaults_to_the_original_is_recorded(monkeypatch):
    originals = F.l1_loss, torch.autograd.backward
    monkeypatch.setattr(F, "l1_loss", lambda *args, **kwargs: originals[0](*args, **kwargs) * 2)
    monkeypatch.setattr(torch.autograd, "backward", lambda *args, **kwargs: originals[1](*args, **kwargs))
    x = torch.ones(3, requires_grad=True)
    with Recorder() as recorder:
        F.l1_loss(x, torch.zeros(3)).backward()
        torch.autograd.backward(x.sum())
    assert x.grad.tolist() == pytest.approx([2 / 3 + 1] * 3)
    assert len(recorder.trace.passes) == 2

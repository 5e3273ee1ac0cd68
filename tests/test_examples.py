"""The examples print what mathematics says, and run under gradtrace exactly as they run without it."""

import contextlib
import functools
import gc
import math
import os
import random
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch

import gradtrace
from gradtrace.recording.recorder import Recorder
from tests.scripts import Done, default_signals, run
from tests.zygote import Task, Zygote

FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py"))
FAILING = {"backward_twice"}

every_example = pytest.mark.parametrize("name", EXAMPLES)


ZYGOTES = {}


@pytest.fixture(scope="module", autouse=True)
def _zygotes():
    with default_signals(), Zygote() as ours, Zygote(plain=True) as python:
        ZYGOTES.update(gradtrace=ours, python=python)
        yield


def forked(by, *arguments):
    """What a forked process did with these arguments, and the files that it left."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        streams = folder / "stdout", folder / "stderr"
        for stream in streams:
            stream.touch()
        code = ZYGOTES[by].run(Task([*arguments], name, os.devnull, *map(str, streams)))
        stdout, stderr = (stream.read_text(encoding="utf-8") for stream in streams)
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path not in streams}
        return Done(stdout, stderr, code, files=files)


@functools.cache
def plain(name):
    """What ``python examples/NAME.py`` does, with nothing of ours near."""
    return forked("python", str(FOLDER / f"{name}.py"))


def printed(name):
    """The numbers that an example prints, in their order."""
    done = plain(name)
    assert done.stderr == ""
    return [float(text) for text in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?", done.stdout)]


def test_square():
    assert printed("square") == [2 * 9]


def test_sine():
    stretch = 2 * math.sqrt(2)
    assert printed("sine") == pytest.approx([math.cos(100 / stretch) / stretch], abs=1e-4)


def test_partials():
    u, v = 2, 4
    assert printed("partials") == [u**2 + v**3 + u * v, 2 * u + v, 3 * v**2 + u]


def test_ranks():
    weight, x = 0, 1
    assert printed("ranks") == [0, 2 * x * (weight * x - 3 * x)]


def test_sine_curve():
    assert printed("sine_curve") == pytest.approx([0], abs=1e-6)


def drawn_in_double(*modules):
    """Modules with the weights that an example's have, made in double precision in the same order."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        return [make() for make in modules]
    finally:
        torch.set_default_dtype(torch.float32)


def test_rnn():
    cell, head, steps = drawn_in_double(
        lambda: torch.nn.RNNCell(4, 16),
        lambda: torch.nn.Linear(16, 1),
        lambda: [torch.randn(1, 4) for _ in range(100)],
    )
    state = torch.zeros(1, 16, dtype=torch.float64)
    for x in steps:
        state = torch.tanh(x @ cell.weight_ih.T + cell.bias_ih + state @ cell.weight_hh.T + cell.bias_hh)
    assert printed("rnn") == pytest.approx([((state @ head.weight.T + head.bias) ** 2).item()], abs=1e-6)


def test_transformer():
    block, x = drawn_in_double(
        lambda: torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True),
        lambda: torch.randn(2, 5, 16),
    )
    for _ in range(12):  # all are copies of one
        normed = block.norm1(x)
        x = x + block.self_attn(normed, normed, normed)[0]
        x = x + block.linear2(torch.relu(block.linear1(block.norm2(x))))
    assert printed("transformer") == pytest.approx([(x**2).mean().item()], abs=1e-5)


def test_second_derivative():
    assert printed("second_derivative") == pytest.approx([math.cos(math.pi / 6), -math.sin(math.pi / 6)], abs=1e-4)


def test_amplitude():
    exact = sum(math.sin(i * math.pi / 49) for i in range(50))
    assert printed("amplitude") == pytest.approx([exact, exact], abs=1e-3)


def test_custom_function():
    assert printed("custom_function") == [2 * round(x) for x in (0.4, 1.6, -2.7)]


def test_mlp_learns():
    steps = printed("mlp")
    assert steps[0::2] == [0, 1, 2]
    assert steps[1] > steps[3] > steps[5] > 0


def test_chain():
    assert printed("chain") == [2 * (3 * 2 + 1) * 3]


def test_two_layers():
    x, target, w1, b1, w2, b2 = 2, 1, 3, -1, 0.5, 1.5
    hidden = w1 * x + b1
    slope = 2 * (w2 * hidden + b2 - target)
    numbers = re.findall(r"\w\d (\d+)", plain("two_layers").stdout)
    assert list(map(float, numbers)) == [slope * w2 * x, slope * w2, slope * hidden, slope]


def test_accumulate():
    slope = 2 * 3
    assert printed("accumulate")[1::2][:3] == [slope, 2 * slope, 3 * slope]
    assert printed("accumulate")[-3:] == [0, slope, 0]


def test_layer():
    torch.manual_seed(0)
    first, second = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
    x, y = torch.randn(5, 3), torch.randn(5, 1)
    hidden = (x @ first.weight.T + first.bias).clamp(min=0)
    expected = ((hidden @ second.weight.T + second.bias - y) ** 2).mean().item()
    assert printed("layer") == pytest.approx([expected], abs=1e-5)


def test_backward_twice_ends_in_the_error_of_pytorch():
    done = plain("backward_twice")
    assert done.code == 1
    assert [float(line.rpartition(":")[2]) for line in done.stdout.splitlines()] == [2 * 3]
    assert "Trying to backward through the graph a second time" in done.stderr


@every_example
def test_an_example_is_short_and_knows_nothing_of_us(name):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 40
    assert "gradtrace" not in text


def execute(name, watching):
    """Run an example in this process; return its variables and the error that it ended in."""
    path = FOLDER / f"{name}.py"
    torch.manual_seed(1)
    random.seed(1)
    variables = {"__name__": "__main__", "__file__": str(path)}
    try:
        with watching:
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), variables)
    except RuntimeError as error:
        return variables, str(error)
    return variables, None


def tensors(variables):
    """All tensors among the variables of a script, parameters and gradients included, by name."""
    found = {}
    for name, value in variables.items():
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, torch.nn.Module):
            found |= {f"{name}.{key}": parameter for key, parameter in value.named_parameters()}
    gradients = {f"{key}.grad": value.grad for key, value in found.items() if value.is_leaf}
    return found | {key: grad for key, grad in gradients.items() if grad is not None}


def same_bits(a, b):
    """Tell whether two tensors are the same to the last bit, signs of zero and NaN payloads included."""
    bits = [t.detach().contiguous().flatten().view(torch.uint8) for t in (a, b)]
    return (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride()) and torch.equal(*bits)


def surroundings():
    """Everything global that a recording could leave changed."""
    import torch.nn.modules.module as hooks  # noqa: PLC0415

    global_hooks = [value for name, value in vars(hooks).items() if re.match(r"_global_\w*hooks", name)]
    return {
        "functions": [torch.autograd.backward, torch.autograd.grad, torch.Tensor.backward],
        "engine": [torch.autograd._engine_run_backward, torch.autograd.graph._engine_run_backward],
        "modes": [torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()],
        "global hooks": [dict(hook) for hook in global_hooks if isinstance(hook, dict)],
        "flags": [torch.is_grad_enabled(), torch.is_anomaly_enabled(), torch.are_deterministic_algorithms_enabled()],
        # torch.distributed puts a hook of its own there, a new one each time.
        "interpreter": [sys.gettrace(), sys.getprofile(), sys.excepthook.__qualname__, list(sys.argv), list(sys.path)],
        "randomness": [random.getstate(), torch.get_rng_state().tolist()],
    }


def recording_objects():
    """How many objects of our recording are alive, by type."""
    gc.collect()
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(kind for kind in kinds if str(kind.__module__).startswith("gradtrace.recording"))


@every_example
def test_an_example_computes_the_same_bits_with_and_without_gradtrace(name, capsys):
    variables, error = execute(name, contextlib.nullcontext())
    stdout = capsys.readouterr().out
    state = random.getstate(), torch.get_rng_state().tolist()

    watched, watched_error = execute(name, gradtrace.record())

    assert capsys.readouterr().out == stdout
    assert (random.getstate(), torch.get_rng_state().tolist()) == state
    assert (watched_error, error is not None) == (error, name in FAILING)
    expected, found = tensors(variables), tensors(watched)
    assert list(found) == list(expected)
    assert [key for key in found if not same_bits(found[key], expected[key])] == []


@every_example
def test_a_recording_leaves_no_hook_patch_or_mode_behind(name):
    execute(name, gradtrace.record())  # imports whatever is imported once
    execute(name, contextlib.nullcontext())
    before, alive = surroundings(), recording_objects()

    variables, _ = execute(name, gradtrace.record())

    assert surroundings() == before
    found = tensors(variables)
    assert [key for key, value in found.items() if value._backward_hooks or value._post_accumulate_grad_hooks] == []
    # The graphs are alive in the script's variables: a hook on one of their nodes would keep our objects alive too.
    assert recording_objects() == alive
    assert Recorder not in recording_objects()


@every_example
def test_the_command_changes_neither_stdout_nor_the_exit_code(name):
    done, alone = forked("gradtrace", "record", "-o", "out.json", str(FOLDER / f"{name}.py")), plain(name)
    assert (done.stdout, done.code) == (alone.stdout, alone.code)
    assert list(done.files) == ["out.json"]


@pytest.mark.slow
@every_example
def test_the_command_takes_little_memory(name, tmp_path):
    alone = run(FOLDER, "-W", "error", str(FOLDER / f"{name}.py"))
    done = run(tmp_path, "-m", "gradtrace", "record", "-o", "out.json", str(FOLDER / f"{name}.py"))
    assert (done.stdout, done.code) == (alone.stdout, alone.code)
    assert alone.peak < done.peak <= 1.05 * alone.peak

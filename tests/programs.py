"""Random programs: each made of a seed, out of all that autograd knows; the same statements at each run.

A program has a pool of square matrices to draw from, and adds to it. What raises is noted by its words and left.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    Tensors = list[torch.Tensor]

__all__ = ["Program"]


class Twice(torch.autograd.Function):
    """One input, one output."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.factor = 2
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor


class Both(torch.autograd.Function):
    """Two inputs, two outputs, an argument that is no tensor, an output without a gradient."""

    @staticmethod
    def forward(a, b, scale):
        return a * b, a + b, (a > b).to(a.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        a, b, ctx.scale = inputs
        ctx.save_for_backward(a, b)
        ctx.mark_non_differentiable(output[2])

    @staticmethod
    def backward(ctx, first, second, _):
        a, b = ctx.saved_tensors
        return first * b + second, first * a + second, None


class Kind(torch.Tensor):
    """A class of its own."""


def tame(x: torch.Tensor, n: int) -> torch.Tensor:
    """A matrix of the usual kind and size, of what a step made."""
    x = x.to_dense() if x.layout is not torch.strided else x
    x = torch.view_as_real(x).sum(-1) if x.is_complex() else x
    x = x.float() if x.dtype is not torch.float32 else x
    x = x.sum() if x.numel() != n * n else x
    return (x.reshape(n, n) if x.dim() else x.expand(n, n)).tanh()


UNARY: dict[str, Callable[..., Any]] = {
    "sin": torch.sin,
    "sgn of a stack": lambda x: torch.sgn(torch.stack([x, x])) + torch.stack([x, x]).sum(),
    "exp": lambda x: (-x.abs()).exp(),
    "transpose": lambda x: x.t(),
    "slices": lambda x: torch.cat([x[:1], x[1:]]),
    "each other element": lambda x: x.flatten()[::2].sum() + x[..., -1].sum(),
    "unbind": lambda x: torch.stack(x.unbind(0)[::-1]),
    "split": lambda x: sum(part.sum() * at for at, part in enumerate(x.split(2))),
    "chunk unused": lambda x: x.chunk(2)[0].sum(),
    "expand": lambda x: x[:1].expand(x.shape),
    "diagonal": lambda x: x.diagonal().sum() + x.diag().prod(),
    "as strided": lambda x: x.contiguous().as_strided(x.shape, (1, x.shape[0])),
    "unfold": lambda x: x.flatten().unfold(0, 1, 1).sum(-1),
    "topk": lambda x: x.topk(1)[0].sum(),
    "max with index": lambda x: x.max(0)[0] + x.min(1).values,
    "qr": lambda x: torch.linalg.qr(x + 3 * torch.eye(len(x)))[1],
    "svd": lambda x: torch.linalg.svdvals(x + torch.diag(torch.arange(1.0, 1 + len(x)))),
    "sparse": lambda x: torch.sparse.sum(x.to_sparse(), 0).to_dense().sum(),
    "sparse product": lambda x: torch.sparse.mm(x.to_sparse(), x),
    "rows": lambda x: F.embedding(torch.tensor([0, 0]), x).sum(),
    "sparse gradient": lambda x: F.embedding(torch.tensor([0, 0]), x, sparse=True).sum(),
    "of another thread": lambda x: _in_a_thread(lambda: x.sin() * x),
    "complex": lambda x: torch.fft.fft(x).abs(),
    "conjugate": lambda x: torch.complex(x, x * 2).conj().imag,
    "complex product": lambda x: torch.complex(x, -x) * torch.complex(x, x),
    "half": lambda x: x.half() * 2,
    "bfloat16": lambda x: (x.bfloat16() @ x.bfloat16()).float(),
    "double": lambda x: x.double().sin(),
    "nested": lambda x: torch.nested.as_nested_tensor([x[0], x.flatten()], layout=torch.jagged).values().sum(),
    "subclass": lambda x: (x.as_subclass(Kind) * 2).sin().as_subclass(torch.Tensor),
    "custom": Twice.apply,
    "checkpoint": lambda x: checkpoint(lambda y: y.sin() * y, x, use_reentrant=False),
    "reentrant checkpoint": lambda x: checkpoint(lambda y: y.cos() * y, x, use_reentrant=True),
    "vmap": lambda x: torch.func.vmap(lambda row: row * row.sum())(x),
    "func.grad": lambda x: torch.func.grad(lambda y: (y**3).sum())(x) * x,
    "func.vjp": lambda x: torch.func.vjp(torch.sin, x)[1](torch.ones_like(x))[0],
    "func.jvp": lambda x: torch.func.jvp(torch.sin, (x,), (torch.ones_like(x),))[1],
    "no_grad": lambda x: x * torch.no_grad()(lambda: (x * 2).sum())(),
    "detach": lambda x: x * x.detach() + x.clone().detach(),
    "autocast": lambda x: torch.autocast("cpu", torch.bfloat16)(lambda: F.linear(x, x))(),
    "dropout": lambda x: F.dropout(x, 0.5),
    "in place": lambda x: (x * 1).mul_(2).add_(x),
    "in place on a view": lambda x: _changed(x * 1),
    "in place that spoils": lambda x: _spoiled(x.exp()),
    "copied into": lambda x: torch.zeros_like(x).index_copy(0, torch.tensor([0]), x[:1]),
    "put into a slice": lambda x: _put(torch.zeros_like(x), x),
    "where": lambda x: torch.where(x > 0, x, x * 0),
    "gather": lambda x: x.gather(0, torch.zeros(1, x.shape[1], dtype=torch.long)).sum(0),
    "cumulative": lambda x: x.cumsum(0).cumprod(1),
    "norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "softmax": lambda x: x.softmax(-1).logsumexp(0),
    "einsum": lambda x: torch.einsum("ij,jk->ik", x, x),
    "attention": lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None])[0],
    "to a list and back": lambda x: torch.stack([torch.stack(list(row)) for row in x]),
    "hooks": lambda x: _hooked(x * 1),
    "hooks of a node": lambda x: _node_hooked(x * 1),
    "saved elsewhere": lambda x: _saved(x),
    "zeros": lambda x: x * 0 + x.sign(),
    "infinity": lambda x: (x / x.detach().abs().clamp(min=0.5)).log1p().nan_to_num(),
}
BINARY: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "mul": torch.mul,
    "matmul": lambda a, b: a @ b,
    "div": lambda a, b: a / (b.abs() + 1),
    "custom of two": lambda a, b: sum(Both.apply(a, b, 2)),
    "one of two": lambda a, b: Both.apply(a, b, 2)[1],
    "cat": lambda a, b: torch.cat([a, b])[: len(a)],
    "maximum": torch.maximum,
    "loss": lambda a, b: F.mse_loss(a, b) + F.l1_loss(a, b, reduction="sum"),
    "pairs": lambda a, b: (a.flatten()[:, None] - b.flatten()).abs().sum(),
    "distance": torch.cdist,
    "func.vmap of two": lambda a, b: torch.func.vmap(torch.dot)(a, b),
    "checkpoint of two": lambda a, b: checkpoint(torch.mul, a, b, use_reentrant=False),
    "foreach": lambda a, b: sum(torch._foreach_mul([a, b], 2)),
    "addmm": lambda a, b: torch.addmm(a, b, a),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3),
    "solve": lambda a, b: torch.linalg.solve(a + 3 * torch.eye(len(a)), b),
}


def _in_a_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def _changed(x: torch.Tensor) -> torch.Tensor:
    x[0].mul_(2)
    x.t()[0] += 1
    return x


def _spoiled(x: torch.Tensor) -> torch.Tensor:
    y = x * x
    x.add_(1)
    return y


def _put(into: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    into[:, 0] = x[:, 0]
    into.relu_()
    return into


def _hooked(x: torch.Tensor) -> torch.Tensor:
    x.register_hook(lambda grad: grad * 2)
    x.register_hook(lambda grad: None)
    if x.requires_grad:
        x.retain_grad()
    return x


def _node_hooked(x: torch.Tensor) -> torch.Tensor:
    if x.grad_fn is not None:
        x.grad_fn.register_hook(lambda sent, arrived: None)
        x.grad_fn.register_prehook(lambda arrived: tuple(None if grad is None else grad * 1 for grad in arrived))
    return x


def _saved(x: torch.Tensor) -> torch.Tensor:
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        return x.sin() * x.exp()


def _module(random: Random, n: int) -> nn.Module:
    inner = nn.Sequential(nn.Linear(n, n), nn.Tanh(), nn.Dropout(0.3), nn.Linear(n, n, bias=random.random() < 0.5))
    made = [
        lambda: inner,
        lambda: nn.DataParallel(inner),
        lambda: nn.Sequential(nn.BatchNorm1d(n), inner, inner),
        lambda: nn.TransformerEncoderLayer(n, 1, 2 * n, batch_first=True),
        lambda: nn.Bilinear(n, n, n),
        lambda: nn.GRUCell(n, n),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(n, n)),
    ]
    return random.choice(made)()


class Program:
    """A program; ``told`` is what it says of itself: what it raised, and its results to the last bit."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.told: list[Any] = []

    def run(self) -> None:
        """Run it."""
        random = Random(self._seed)
        torch.manual_seed(self._seed)
        n = random.choice((1, 2, 3, 3, 5, 20))
        leaves = [torch.rand(n, n).requires_grad_() for _ in range(random.randint(1, 3))]
        if random.random() < 0.2:
            leaves[0].register_post_accumulate_grad_hook(lambda leaf: [leaf.grad.mul_(2)].clear())
        if random.random() < 0.2:
            leaves[0].register_hook(lambda grad: grad.clamp(-1, 1))
        self._modules = [_module(random, n) for _ in range(random.randint(0, 2))]
        leaves += [parameter for module in self._modules for parameter in module.parameters()]
        optimizer = torch.optim.SGD(leaves, 0.01)
        for _ in range(random.randint(1, 3)):
            pool = [leaf for leaf in leaves if leaf.shape == (n, n)]
            for _ in range(random.randint(1, 8)):
                self._try(self._step, random, pool, n)
            self._try(self._differentiate, random, pool, leaves)
            if random.random() < 0.5:
                optimizer.step()
            if random.random() < 0.5:
                optimizer.zero_grad(set_to_none=random.random() < 0.5)
        self.told += [None if leaf.grad is None else leaf.grad.clone() for leaf in leaves]
        self.told += [leaf.detach().clone() for leaf in leaves]
        self.told += [(leaf._version, len(leaf._backward_hooks or ())) for leaf in leaves]
        self.told += [torch.get_rng_state(), torch.is_grad_enabled()]

    def _try(self, step: Callable[..., None], *given: Any) -> None:
        try:
            step(*given)
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
            self.told.append(f"{type(error).__name__}: {error}")

    def _step(self, random: Random, pool: Tensors, n: int) -> None:
        chosen = random.random()
        one, other = random.choice(pool), random.choice(pool)
        if chosen < 0.12 and self._modules:
            module = random.choice(self._modules)
            found = module(one, other) if isinstance(module, nn.Bilinear) else module(one)
        elif chosen < 0.4:
            found = BINARY[random.choice(list(BINARY))](one, other)
        else:
            found = UNARY[random.choice(list(UNARY))](one)
        pool.append(tame(found, n))

    def _differentiate(self, random: Random, pool: Tensors, leaves: Tensors) -> None:
        made = [tensor for tensor in pool if tensor.grad_fn is not None] or [leaves[0] * 1]
        output, other = made[-1], random.choice(made)
        chosen = random.randrange(9)
        if chosen == 0:
            torch.autograd.backward([output.sum(), other.mean()])
        elif chosen == 1:
            self.told += self._kept(torch.autograd.grad(output.sum(), leaves, allow_unused=True))
        elif chosen == 2:
            self.told += self._kept(
                torch.autograd.grad(output, [other, *leaves], torch.ones_like(output), allow_unused=True)
            )
        elif chosen == 3:
            output.sum().backward(retain_graph=True)
            output.mean().backward()
        elif chosen == 4:
            found = torch.autograd.grad(output.sum(), leaves, create_graph=True, allow_unused=True)
            sum((gradient**2).sum() for gradient in found if gradient is not None).backward()
        elif chosen == 5:
            output.sum().backward(inputs=[leaves[0], other])
        elif chosen == 6:
            output.backward(torch.full_like(output, 0.5))
            output.sum().backward()  # which may be freed
        elif chosen == 7:
            _in_a_thread(lambda: (output.sum() + other.mean()).backward())
        else:
            sum(tensor.sum() for tensor in made).backward()

    def _kept(self, gradients: Any) -> list[torch.Tensor | None]:
        return [None if gradient is None else gradient.detach().clone() for gradient in gradients]


def quiet() -> None:
    """Let no warning of torch's about what it computes here be shown, and each of ours be an error."""
    warnings.simplefilter("ignore")
    warnings.filterwarnings("error", module=r"gradtrace\b")

"""Steps of optimizers and clipping of gradients: their order, and whether a step changed any parameter."""

from __future__ import annotations

import functools
import sys
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.isolation.hidden import hidden
from gradtrace.recording.isolation.patch import Patch, Removable
from gradtrace.recording.stats.device import is_here
from gradtrace.recording.user_code.frames import Place, find_user_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gradtrace.model import Attribute

__all__ = ["TrainingSteps"]

_CLIPPING = ("clip_grad_norm_", "clip_grad_value_")
_SAMPLE = 64  # elements of a parameter compared to see whether a step changed it
_LOOKS = 100  # steps after which parameters are not compared any more
_OFTEN, _RESOLVED = 2, 5  # repetitions that count as a habit; steps without a change
_HALF = {torch.float16, torch.bfloat16}
RunFact = tuple[str, tuple[int, ...], Place | None, dict[str, "Attribute"]]


class _Grad:
    """The gradient of a parameter: whether a step has still to use it, whether it is scaled, how steps changed it."""

    __slots__ = ("before", "checked", "fresh", "leaf", "same", "scaled", "version")

    def __init__(self, leaf: torch.Tensor) -> None:
        self.leaf = weakref.ref(leaf)
        self.fresh = self.scaled = False
        self.version = 0
        self.before: tuple[torch.Tensor, torch.Tensor] | None = None  # elements, and which of them have a gradient
        self.checked = self.same = 0


class _Line:
    """A line that clips or steps: the count for each order."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}
        self.optimizer = ""

    def note(self, how: str) -> None:
        self.times[how] = self.times.get(how, 0) + 1


class TrainingSteps:
    """Tracks the gradients of parameters from the pass to the step."""

    def __init__(self) -> None:
        self.is_scaled = False  # the loss of the next pass is scaled by a GradScaler
        self._grads: dict[int, _Grad] = {}
        self._clips: dict[Place | None, _Line] = {}
        self._steps: dict[Place | None, _Line] = {}

    def parts(self) -> list[Removable]:
        """Return the observer of calls that clip."""
        modules = (torch.nn.utils, torch.nn.utils.clip_grad)
        return [Patch(module, name, self._clipping(getattr(module, name))) for module in modules for name in _CLIPPING]

    def passed(self, leaves: Iterable[torch.Tensor]) -> None:
        """Note the leaves into which a pass put gradients."""
        for leaf in leaves:
            grad = self._of(leaf)
            grad.fresh, grad.scaled = True, self.is_scaled
            grad.version = -1 if leaf.grad is None else leaf.grad._version
        self.is_scaled = False

    def scaling(self, scaler: torch.amp.GradScaler) -> None:
        """Note that a GradScaler has multiplied the loss of the next pass, unless it is turned off."""
        self.is_scaled = bool(scaler.is_enabled())

    def unscaled(self) -> None:
        """Note that a GradScaler has unscaled the gradients."""
        for grad in self._grads.values():
            grad.scaled = False

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note a step that is about to run."""
        line = self._steps.setdefault(find_user_place(sys._getframe(1))[0], _Line())
        line.optimizer = type(optimizer).__name__
        grads = [self._of(leaf) for group in optimizer.param_groups for leaf in group["params"]]
        fresh = [grad for grad in grads if grad.fresh]
        lost = [grad for grad in fresh if _is_gone(grad)]
        line.note("zeroed" if lost and len(lost) == len(fresh) else "effective")
        rates = [float(group.get("lr", 1.0)) for group in optimizer.param_groups]
        line.note("rate" if any(rates) else "without rate")
        for grad in grads:
            grad.fresh = False
            grad.before = _sampled(grad)

    def stepped(self, optimizer: torch.optim.Optimizer) -> None:
        """Compare the parameters in half precision with their values before the step."""
        for leaf in (leaf for group in optimizer.param_groups for leaf in group["params"]):
            grad = self._of(leaf)
            if grad.before is not None:
                elements, moved = grad.before
                grad.checked += 1
                grad.same += bool((leaf.detach().reshape(-1)[:_SAMPLE][moved] == elements[moved]).all())
                grad.before = None

    def of_run(self, names: dict[int, str]) -> Iterator[RunFact]:
        """Yield the lines that clip or step without effect, and the parameters that no step changed."""
        for place, line in self._clips.items():
            worst = max((how for how in line.times if how != "proper"), key=lambda how: line.times[how], default="")
            if worst and "proper" not in line.times and (line.times[worst] >= _OFTEN or worst == "scaled"):
                yield "clip-misplaced", (), place, {"how": worst, "times": line.times[worst]}
        for place, line in self._steps.items():
            for how, other in (("zeroed", "effective"), ("without rate", "rate")):
                if line.times.get(how, 0) > _OFTEN and other not in line.times:
                    yield "no-effect", (), place, {"how": how, "times": line.times[how], "names": []}
        unmoved = [(key, g) for key, g in self._grads.items() if g.checked >= _RESOLVED and g.same == g.checked]
        if unmoved:
            known: list[Attribute] = [names.get(key, "") for key, _ in unmoved]
            steps = max(grad.checked for _, grad in unmoved)
            place = next(reversed(self._steps), None)
            yield "no-effect", (), place, {"how": "resolution", "times": steps, "names": known}

    def _of(self, leaf: torch.Tensor) -> _Grad:
        found = self._grads.get(id(leaf))
        if found is None or found.leaf() is not leaf:
            found = self._grads[id(leaf)] = _Grad(leaf)
        return found

    def _clipped(self, leaves: list[torch.Tensor]) -> None:
        grads = [self._of(leaf) for leaf in leaves]
        line = self._clips.setdefault(find_user_place(sys._getframe(1))[0], _Line())
        if any(grad.fresh and grad.scaled for grad in grads):
            line.note("scaled")
        elif any(grad.fresh for grad in grads):
            line.note("proper")
        else:
            held = any(leaf.grad is not None and not _is_gone(grad) for leaf, grad in zip(leaves, grads, strict=True))
            line.note("after" if held else "before")

    def _clipping(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def clip(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            leaves = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
            with suppress(RuntimeError, TypeError, AttributeError, NotImplementedError), hidden():
                self._clipped(leaves)
            return original(
                parameters if isinstance(parameters, torch.Tensor) or not leaves else leaves, *args, **kwargs
            )

        return clip


def _is_gone(grad: _Grad) -> bool:
    """Tell whether a gradient was zeroed since its pass."""
    leaf = grad.leaf()
    held = None if leaf is None else leaf.grad
    if held is None:
        return True
    if held._version == grad.version or type(held) is not torch.Tensor or held.layout is not torch.strided:
        return False
    return is_here(held) and not bool(held.detach().any())


def _sampled(grad: _Grad) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return some elements of a parameter in half precision, and which of them have a gradient."""
    leaf = grad.leaf()
    if leaf is None or leaf.dtype not in _HALF or leaf.grad is None or grad.checked >= _LOOKS or not is_here(leaf):
        return None
    if type(leaf.grad) is not torch.Tensor or leaf.grad.layout is not torch.strided:
        return None
    moved = leaf.grad.detach().reshape(-1)[:_SAMPLE] != 0
    return (leaf.detach().reshape(-1)[:_SAMPLE].clone(), moved) if bool(moved.any()) else None

"""Everything of torch that watches or rewrites calls, where ours must not be seen."""

import torch, warnings, gc, io, contextlib
import torch.nn as nn, torch.nn.functional as F

# ours under user's leftovers
from torch.overrides import TorchFunctionMode


class M(TorchFunctionMode):
    def __torch_function__(self, f, t, a=(), k=None):
        return f(*a, **(k or {}))


m = M()
m.__enter__()
x = torch.ones(3, requires_grad=True)
(x * 2).sum().backward()
torch.set_default_device("cpu")
(x * 2).sum().backward()
print(x.grad)
# fx, jit, export
lin = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
m.__exit__(None, None, None)
import torch.fx

g = torch.fx.symbolic_trace(lin)
print(g.code)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    t = torch.jit.trace(lin, torch.ones(1, 3))
    print(t.code)
    s = torch.jit.script(lin)
    print(s.code)
    s(torch.ones(1, 3)).sum().backward()
    t(torch.ones(1, 3)).sum().backward()
ep = torch.export.export(lin, (torch.ones(1, 3),))
print(ep.graph)
from torch.fx.experimental.proxy_tensor import make_fx

print(make_fx(lambda x: x.sin().cos())(torch.ones(3)).code)
print(make_fx(lambda x: torch.autograd.grad(x.sin().sum(), x))(torch.ones(3, requires_grad=True)).code)
# functional
print(torch.autograd.functional.hessian(lambda x: (x**3).sum(), torch.ones(2)))
print(torch.autograd.functional.jvp(lambda x: x.sin(), torch.ones(2), torch.ones(2)))
print(torch.func.vmap(torch.func.grad(lambda x: x.sin()))(torch.arange(3.0)))
print(
    torch.func.jacrev(lambda x: x**2)(torch.ones(2)),
    torch.func.jacfwd(lambda x: x**2)(torch.ones(2)),
    torch.func.hessian(lambda x: (x**3).sum())(torch.ones(2)),
)
print(torch.autograd.gradcheck(lambda x: x.sin(), torch.ones(3, dtype=torch.double, requires_grad=True)))
with torch.autograd.profiler.profile() as prof:
    x.sin().sum().backward()
print(sorted({e.name for e in prof.function_events}))
from torch.utils.checkpoint import checkpoint

n = [0]


def fwd(a):
    n[0] += 1
    return a.sin().cos()


checkpoint(fwd, x, use_reentrant=False).sum().backward()
checkpoint(fwd, x, use_reentrant=True).sum().backward()
print(n)
from torch.utils.flop_counter import FlopCounterMode

with FlopCounterMode(display=False) as fc:
    lin(torch.ones(1, 3)).sum().backward()
print(fc.get_total_flops())
with torch.autograd.set_detect_anomaly(True, check_nan=True):
    try:
        (x * 0).sqrt().sum().backward()
        (x.detach().zero_().requires_grad_() * 0).div(0).sum().backward()
    except RuntimeError as e:
        print(e)
with torch.autograd.graph.save_on_cpu():
    (x * x).sum().backward()
l = []
with torch.autograd.graph.saved_tensors_hooks(lambda t: l.append(1) or t, lambda t: l.append(2) or t):
    (x.exp() * x).sum().backward()
print(l)
from torch.nn.utils import parametrizations, prune

w = parametrizations.weight_norm(nn.Linear(3, 3))
w(x).sum().backward()
print(w)
import copy, pickle

copy.deepcopy(lin)(torch.ones(1, 3)).sum().backward()
b = io.BytesIO()
torch.save(lin.state_dict(), b)
print(b.getbuffer().nbytes)
print(pickle.loads(pickle.dumps(x)))
with torch.inference_mode():
    print(lin(torch.ones(1, 3)).shape)
# in place and CopySlices
z = x * 1
z[0] *= 3
z.mul_(2)
z.sum().backward()
y = torch.randn(3, requires_grad=True)
torch.autograd.backward([y.sin().sum(), y.cos().sum()])
# functools
out = torch.nn.utils.rnn.pack_padded_sequence(torch.randn(2, 3, 4), [3, 2], batch_first=True)
o, _ = nn.LSTM(4, 5, batch_first=True)(out)
o.data.sum().backward()
print(len(gc.garbage))

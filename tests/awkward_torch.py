"""Awkward scripts that use torch; see awkward.py."""

TORCH = {
    "a class that prints": """
        class Loud(torch.Tensor):
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                print(getattr(func, "__name__", func), getattr(getattr(func, "__self__", None), "__name__", ""))
                return super().__torch_function__(func, types, args, kwargs or {})
        x = torch.ones(3).as_subclass(Loud).requires_grad_()
        y = (x * 2).sum()
        y.backward()
        print("end")
    """,
    "a fake pass after a real one": """
        from torch._subclasses.fake_tensor import FakeTensorMode
        x = torch.ones(3, requires_grad=True)
        (x * 2).sum().backward()
        with FakeTensorMode():
            y = torch.ones(300, requires_grad=True)
            (y * 2).view(3, 100).sum().backward()
            print(y.grad)
    """,
    "a repr that raises": """
        class Odd(torch.Tensor):
            def __repr__(self): raise ValueError("no repr")
        class Module(torch.nn.Module):
            def __repr__(self): raise ValueError("no repr")
            __str__ = __repr__
            def forward(self, x): return x * 2
        m, x = Module(), torch.ones(2).as_subclass(Odd).requires_grad_()
        m(x).sum().backward()
        print(x.grad.sum().item())
    """,
    "objects that raise at all": """
        class Odd:
            def __getattribute__(self, name):
                if name == "__class__": return Odd
                raise ValueError(name)
            def __eq__(self, other): raise ValueError
            def __hash__(self): raise ValueError
            def __bool__(self): raise ValueError
            def __len__(self): raise ValueError
            def __iter__(self): raise ValueError
        class Text(str):
            def __repr__(self): raise ValueError
            def __str__(self): raise ValueError
        class Function(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, odd):
                ctx.odd = odd
                ctx.save_for_backward(x)
                return x * 2
            @staticmethod
            def backward(ctx, grad): return grad * 2, None
        odd, held = Odd(), [Odd(), {Text("a"): Odd()}]
        module = torch.nn.Linear(2, 2)
        module.odd = odd
        x = torch.ones(2, requires_grad=True)
        loss = Function.apply(module(x), odd).sum()
        loss.backward()
        print(x.grad.shape)
    """,
    "a module that hides its parameters": """
        class Module(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.w = torch.nn.Parameter(torch.ones(2))
            def named_parameters(self, *a, **k): raise RuntimeError("hidden")
            def named_modules(self, *a, **k): raise RuntimeError("hidden")
            def modules(self): raise RuntimeError("hidden")
            def named_buffers(self, *a, **k): raise RuntimeError("hidden")
            def forward(self, x): return self.w * x
        class Outer(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = Module()
            def forward(self, x): return self.inner(x)
        m = Outer()
        m(torch.ones(2)).sum().backward()
        print(m.inner.w.grad)
    """,
    "an exit in a hook": """
        import sys
        x = torch.ones(2, requires_grad=True)
        x.register_hook(lambda g: sys.exit(5))
        (x * 2).sum().backward()
    """,
    "an exception in a hook whose str raises": """
        class Odd(Exception):
            def __str__(self): raise ValueError
        def hook(g): raise Odd
        x = torch.ones(2, requires_grad=True)
        x.register_hook(hook)
        (x * 2).sum().backward()
    """,
    "an exception that is caught": """
        x = torch.ones(2, requires_grad=True)
        y = x.exp()
        y.sum().backward()
        try:
            y.sum().backward()
        except RuntimeError as error:
            print(str(error)[:50])
        print(x.grad)
    """,
    "a fork between": """
        import os
        x = torch.ones(2, requires_grad=True)
        (x * 2).sum().backward()
        pid = os.fork()
        if pid == 0:
            (x * 3).sum().backward()
            print("child", x.grad, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print("parent", x.grad)
    """,
    "a fork that returns": """
        import os
        x = torch.ones(2, requires_grad=True)
        (x * 2).sum().backward()
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        print("parent" if pid else "child", x.grad, flush=True)
    """,
    "workers": """
        from torch.utils.data import DataLoader
        if __name__ == "__main__":
            x = torch.ones(2, requires_grad=True)
            for row in DataLoader(torch.arange(8.0).view(4, 2), num_workers=2):
                (x * row).sum().backward()
            print(x.grad)
    """,
    "anomalies": """
        torch.autograd.set_detect_anomaly(True)
        x = torch.zeros(2, requires_grad=True)
        y = x / x
        try:
            y.sum().backward()
        except RuntimeError as error:
            print(error)
    """,
    "a backward in threads": """
        import threading
        xs = [torch.full((3,), float(i), requires_grad=True) for i in range(4)]
        ts = [threading.Thread(target=lambda x: (x * x).sum().backward(), args=(x,)) for x in xs]
        [t.start() for t in ts]
        [t.join() for t in ts]
        print([x.grad for x in xs])
    """,
    "signals at any moment": """
        import signal
        def handler(*_): raise TimeoutError
        signal.signal(signal.SIGALRM, handler)
        x = torch.ones(30, requires_grad=True)
        layer = torch.nn.Linear(30, 30)
        caught = 0
        for i in range(60):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 * (i + 1), 0.5)
                while True:
                    layer(x).sum().backward()
            except TimeoutError:
                signal.setitimer(signal.ITIMER_REAL, 0)
                caught += 1
        print(caught, torch.is_grad_enabled())
    """,
    "hooks of all kinds": """
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        y.retain_grad()
        x.register_hook(lambda g: print("x", g) or g * 2)
        y.grad_fn.register_hook(lambda i, o: print("node", i, o))
        y.grad_fn.register_prehook(lambda o: print("before", o))
        x.register_post_accumulate_grad_hook(lambda t: print("after", t.grad))
        y.sum().backward()
        print(y.grad, y.grad_fn._backward_hooks if hasattr(y.grad_fn, "_backward_hooks") else "")
    """,
    "saved tensors elsewhere": """
        def pack(t): print("pack", tuple(t.shape)); return t.clone()
        def unpack(t): print("unpack", tuple(t.shape)); return t
        x = torch.ones(2, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            y = x.exp() * x
        y.sum().backward()
        print(x.grad)
    """,
    "a compiled function": """
        f = torch.compile(lambda x: x.sin() * 2, backend="eager")
        x = torch.ones(2, requires_grad=True)
        f(x).sum().backward()
        print(x.grad)
    """,
    "an output alone": """
        x = torch.ones(2, requires_grad=True)
        y = (x * 2).sum()
        print(y.item())
    """,
    "a graph without end": """
        y = x = torch.ones((), requires_grad=True)
        for _ in range(60_000):
            y = y * 1
        y.backward()
        print(x.grad)
        del y
    """,
    "a mode of its own": """
        from torch.overrides import TorchFunctionMode
        from torch.utils._python_dispatch import TorchDispatchMode
        class F(TorchFunctionMode):
            def __torch_function__(self, f, t, a=(), k=None):
                print("F", getattr(f, "__name__", f)); return f(*a, **(k or {}))
        class D(TorchDispatchMode):
            def __torch_dispatch__(self, f, t, a=(), k=None):
                print("D", f); return f(*a, **(k or {}))
        with F(), D():
            x = torch.ones(2, requires_grad=True)
            (x * 2).sum().backward()
    """,
    "a wrapper around F": """
        import torch.nn.functional as F
        original = F.l1_loss
        F.l1_loss = lambda *a, **k: (print("wrapped"), original(*a, **k))[1]
        backward = torch.autograd.backward
        torch.autograd.backward = lambda *a, **k: (print("backward"), backward(*a, **k))[1]
        x = torch.ones(2, requires_grad=True)
        F.l1_loss(x, torch.zeros(2)).backward()
        torch.autograd.backward(x.sum())
        print(x.grad)
    """,
    "random numbers": """
        import random
        torch.manual_seed(0); random.seed(0)
        x = torch.randn(40, requires_grad=True)
        torch.nn.functional.dropout(x, 0.5).sum().backward()
        print(x.grad.sum(), torch.rand(1), random.random())
    """,
    "a type of number": """
        torch.set_default_dtype(torch.float64)
        torch.set_printoptions(precision=12)
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        (x.sin() ** 2).sum().backward()
        print(x.grad)
    """,
    "zeros without memory": """
        a = torch.ones(2, 2, requires_grad=True)
        torch.sgn(torch.stack([a, a])).sum().backward()
        print(a.grad)
    """,
    "gradients of each sample": """
        from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
        net = torch.nn.Linear(3, 2)
        call_for_per_sample_grads(net)(torch.ones(4, 3)).sum().backward()
        print(net.weight.grad_sample.shape)
    """,
}

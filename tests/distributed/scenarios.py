"""Trainings on several gloo ranks, each run plainly and recorded; one torchrun runs them all.

Each rank leaves ``NAME.rankN.json`` for each training and ``same.rankN.json``: whether the parameters, to the bit, and
the gradients are those of the plain run.
"""

import json
import os
import sys
import time
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.distributed.algorithms.join import Join
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.optim.optimizer import register_optimizer_step_pre_hook

import gradtrace

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last, self.spare = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 1)

    def forward(self, x, spare=False):
        hidden = torch.tanh(self.first(x))
        return self.last(hidden) + (self.spare(hidden) if spare else 0)


def loop(
    model, steps=3, spare=False, before=lambda step, x: x, after=lambda step: None, context=lambda step: nullcontext()
):
    """Train; each rank sees other data."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(steps):
        torch.manual_seed(100 * dist.get_rank() + step)
        with context(step):
            model(before(step, torch.randn(3, 4)), **({"spare": True} if spare else {})).pow(2).mean().backward()
        if after(step) != "no step":
            optimizer.step()
            optimizer.zero_grad()


@scenario
def ddp():
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
    loop(model)
    return model


@scenario
def ddp_views():
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 1)), gradient_as_bucket_view=True)
    loop(model)
    return model


@scenario
def ddp_comm_hook():
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 1)))
    model.register_comm_hook(None, fp16_compress_hook)
    loop(model)
    return model


@scenario
def ddp_find_unused():
    model = DistributedDataParallel(Net(), find_unused_parameters=True)
    loop(model)
    return model


@scenario
def ddp_static_graph():
    model = DistributedDataParallel(Net(), static_graph=True)
    loop(model)
    return model


@scenario
def ddp_no_sync():
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 1)))
    loop(
        model, 4, context=lambda step: nullcontext() if step % 2 else model.no_sync(),
        after=lambda step: None if step % 2 else "no step",
    )  # fmt: skip
    return model


@scenario
def ddp_join():
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 1)))
    with Join([model]):
        loop(model, 4 if dist.get_rank() else 2)
    return model


@scenario
def ddp_looked_at():
    """Rank 0 alone makes a pass of its own before each of all ranks."""
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 1)))

    def before(step, x):
        if dist.get_rank() == 0:
            given = x.clone().requires_grad_()
            torch.autograd.grad(model.module(given).sum(), given)
        return x

    loop(model, before=before)
    return model


@scenario
def ddp_groups():
    """Each rank is a process group of its own, and has a model of its own."""
    groups = [dist.new_group([rank]) for rank in range(dist.get_world_size())]
    torch.manual_seed(dist.get_rank())
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 1)), process_group=groups[dist.get_rank()])
    loop(model)
    return model


@scenario
def hsdp():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    mesh = init_device_mesh("cpu", (1, dist.get_world_size()), mesh_dim_names=("replicas", "shards"))
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    loop(model)
    return model


@scenario
def fsdp():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 1))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for part in (model[0], model[2]):
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    loop(model)
    return model


@scenario
def fsdp_transformer():
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(4, 1))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for part in model[0].layers:
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    loop(model, 2, before=lambda step, x: x.reshape(1, 3, 4))
    return model


@scenario
def tensor_parallel():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    loop(model, 2, before=lambda step, x: torch.ones(3, 4))
    return model


@scenario
def gpipe():
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    part = nn.Linear(4, 1) if rank == last else nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    stage = PipelineStage(part, rank, last + 1, torch.device("cpu"))
    schedule = ScheduleGPipe(stage, n_microbatches=2, loss_fn=lambda out, target: ((out - target) ** 2).mean())
    given, target = torch.randn(4, 4), torch.randn(4, 1)
    schedule.step(*([given] if rank == 0 else []), **({"target": target} if rank == last else {}))
    return part


@scenario
def nan_on_one_rank():
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 1)))

    def before(step, x):
        return torch.sqrt(x - x) * 0 + torch.log(x * 0 - 1) if step == 1 and dist.get_rank() == 1 else x

    loop(model, before=before)
    return model


@scenario
def diverging():
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 1)))

    def after(step):
        if step == 1 and dist.get_rank() == 1:
            with torch.no_grad():
                model.module[0].weight.mul_(1.5)

    loop(model, 4, after=after)
    return model


def by_hand(steps, is_reduced):
    """Train without a wrapper; the gradients that ``is_reduced`` tells of are reduced by the script."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def reduce(optimizer, *_):
        step = steps_done[0] = steps_done[0] + 1
        for parameter in model.parameters():
            if is_reduced(step, parameter):
                dist.all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()

    steps_done = [0]
    hook = register_optimizer_step_pre_hook(reduce)
    loop(model, steps)
    hook.remove()
    return model


@scenario
def reduced_by_hand():
    return by_hand(4, lambda step, parameter: True)


@scenario
def not_reduced():
    """Trainings that begin alike, each going its own way."""
    return by_hand(4, lambda step, parameter: False)


@scenario
def biases_forgotten():
    return by_hand(5, lambda step, parameter: step != 3 or parameter.ndim > 1)


@scenario
def unused_on_one_rank():
    model = DistributedDataParallel(Net(), find_unused_parameters=True)
    loop(model, 2, spare=dist.get_rank() == 0)
    return model


@scenario
def late():
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 1)))
    loop(model, 8, before=lambda step, x: time.sleep(0.05 * dist.get_rank()) or x)
    return model


def final(model):
    """Return the parameters, those of this rank, and what is in their gradients."""
    found = [t for p in model.parameters() for t in (p, p.grad) if t is not None]
    return [getattr(t, "_local_tensor", t).detach().clone() for t in found]


def main(folder, names):
    dist.init_process_group("gloo")
    rank, same = dist.get_rank(), {}
    for name in names or SCENARIOS:
        torch.manual_seed(0)
        plain = final(SCENARIOS[name]())
        torch.manual_seed(0)
        with gradtrace.record(command=[name]) as recording:
            model = SCENARIOS[name]()
        recorded = final(model)
        pairs = zip(plain, recorded, strict=True)
        same[name] = all(
            torch.equal(a.nan_to_num(), b.nan_to_num()) and torch.equal(a.isnan(), b.isnan()) for a, b in pairs
        )
        recording.trace.save(os.path.join(folder, f"{name}.rank{rank}.json"))
    with open(os.path.join(folder, f"same.rank{rank}"), "w") as file:
        json.dump(same, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

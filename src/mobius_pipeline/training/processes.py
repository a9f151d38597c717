"""The processes of a training: shards of a batch, and collectives."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)  # after which processes that wait for one that hangs give up


@dataclass(frozen=True)
class Processes:
    """One of the `count` processes of a training; the main process writes files and reports.

    With a single process, nothing is communicated.
    """

    rank: int = 0
    count: int = 1
    is_main_process: bool = True

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """Return this process's part of `items`; all parts have the same length."""
        size = len(items) // self.count
        return items[self.rank * size : (self.rank + 1) * size]

    def ddp(self, model: nn.Module) -> nn.Module:
        """Return `model`, with gradients averaged over all processes in the backward pass.

        Frozen parameters have no gradients and are the same in every process, so they are never sent.
        """
        if self.count == 1:
            return model
        return DistributedDataParallel(model, gradient_as_bucket_view=True, init_sync=False)

    def all_reduce_mean(self, values: Tensor) -> Tensor:
        """Average `values` over the processes in place, and return them."""
        if self.count > 1:
            distributed.all_reduce(values)
            values /= self.count
        return values

    def gather(self, value: T) -> list[T]:
        """Return the `value` of each process, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every process has called this."""
        if self.count > 1:
            distributed.barrier()


ALONE = Processes()


@contextmanager
def processes_of_torchrun(device: str, *, leads: bool) -> Iterator[Processes]:
    """Join the other processes that torch's elastic agent started.

    Args:
        device: "cuda" gives each process its own GPU; "cpu" gives it a share of the machine's cores.
        leads: Whether this process is on the main machine, whose first process is the main process.
    """
    local, beside = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.set_device(local)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // beside))
    distributed.init_process_group("nccl" if on_cuda else "gloo", timeout=TIMEOUT)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), leads and local == 0)
    finally:
        distributed.destroy_process_group()

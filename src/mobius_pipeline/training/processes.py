"""The processes that train together: their shards of a batch, and their collectives."""

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

TIMEOUT = timedelta(minutes=10)  # until processes that wait for one that hangs give up


@dataclass(frozen=True)
class Processes:
    """One of `count` processes; the main process writes files and reports.

    Alone, everything here does nothing and costs nothing.
    """

    rank: int = 0
    count: int = 1
    is_main_process: bool = True

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of what all of them work on; the same length for each."""
        size = len(items) // self.count
        return items[self.rank * size : (self.rank + 1) * size]

    def ddp(self, model: nn.Module) -> nn.Module:
        """`model` with its trained parameters' gradients averaged over all processes on the way back.

        The frozen ones have no gradients and are the same everywhere: they are never sent.
        """
        if self.count == 1:
            return model
        return DistributedDataParallel(model, gradient_as_bucket_view=True, init_sync=False)

    def all_reduce_mean(self, values: Tensor) -> Tensor:
        """The mean of `values` over the processes, computed in place."""
        if self.count > 1:
            distributed.all_reduce(values)
            values /= self.count
        return values

    def gather(self, value: T) -> list[T]:
        """Each process's `value`, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Processes()


@contextmanager
def processes_of_torchrun(device: str, *, leads: bool) -> Iterator[Processes]:
    """Join the processes that torch's elastic agent started beside this one.

    Args:
        device: "cuda" gives each process of a machine a GPU of its own; "cpu" a share of its cores.
        leads: Whether this process is on the machine that leads; its first one does.
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

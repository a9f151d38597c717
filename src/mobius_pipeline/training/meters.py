"""Meters of a training step: live memory, FLOPs and seconds; the same meters measure and predict."""

import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from mobius_pipeline.training.optimizer import optimizer_tensors

Category = Literal["weights", "gradients", "optimizer", "activations", "other"]
CATEGORIES: tuple[Category, ...] = get_args(Category)

BLOCK_BYTES = 512  # CUDA's caching allocator rounds every allocation up to this


@dataclass(frozen=True)
class StepMemory:
    """The peak memory of a step, and its breakdown by category, which sums to the peak."""

    peak_bytes: int
    breakdown: dict[Category, int]


def rounded(nbytes: int) -> int:
    """Return the bytes that the allocator reserves for `nbytes`."""
    return -(-nbytes // BLOCK_BYTES) * BLOCK_BYTES


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the rounded bytes of the distinct storages of `tensors`; views and shared tensors count once."""
    storages = {part.untyped_storage()._cdata: part.untyped_storage() for part in plain_tensors(tensors)}
    return sum(rounded(storage.nbytes()) for storage in storages.values())


def plain_tensors(tensors: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the tensors that hold the bytes: for a quantised tensor, its codes and scales."""
    for tensor in tensors:
        if hasattr(tensor, "__tensor_flatten__"):
            yield from plain_tensors(getattr(tensor, name) for name in tensor.__tensor_flatten__()[0])
        else:
            yield tensor


class LiveMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks every storage that operations create on one type of device, until it is freed.

    Memory that an operation allocates and frees internally (a convolution's workspace) is below the
    dispatcher and not seen. Works the same on real tensors and in a `FakeTensorMode` (no allocation).

    A storage's category is looked up when the breakdown is read, not when the storage is created: an
    optimiser state that appears during the step can be registered after it. A storage that is never
    registered counts under the `phase` in which it was created.
    """

    def __init__(self, device: str = "cpu") -> None:
        """Track storages on devices of type `device` ("cpu", "cuda")."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase: Category = "activations"
        self.current_bytes = 0
        self.peak_bytes = 0
        self._device = device
        self._peak_event = 0
        self._events: list[tuple[int, int]] = []  # (storage number, bytes allocated or, negative, freed)
        self._categories: list[Category] = []  # by storage number
        self._live: dict[int, tuple[int, weakref.finalize[Any, Any]]] = {}  # by address: number, finalizer

    def register(self, tensors: Iterable[Tensor], category: Category) -> None:
        """Count `tensors` under `category`, whether they are new to the meter or already tracked."""
        for tensor in plain_tensors(tensors):
            if tensor.device.type == self._device:
                self._categories[self._follow(tensor)] = category

    @property
    def breakdown(self) -> dict[Category, int]:
        """Bytes alive at the peak by category; they sum to `peak_bytes`."""
        totals = dict.fromkeys(CATEGORIES, 0)
        for number, nbytes in self._events[: self._peak_event]:
            totals[self._categories[number]] += nbytes
        return totals

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and track the storages of its results."""
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        result = func(*args, **(kwargs or {}))
        made = (leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        for tensor in plain_tensors(made):
            if tensor.device.type == self._device:
                self._follow(tensor)
        return result

    def _follow(self, tensor: Tensor) -> int:
        """Track the tensor's storage, if it is not tracked yet, and return the storage's number."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address not in self._live:
            number, nbytes = len(self._categories), rounded(storage.nbytes())
            self._categories.append(self.phase)
            # A weak reference: the meter must not keep tensors alive.
            self._live[address] = number, weakref.finalize(storage, self._freed, address, number, nbytes)
            self._log(number, nbytes)
        return self._live[address][0]

    def _freed(self, address: int, number: int, nbytes: int) -> None:
        del self._live[address]
        self._log(number, -nbytes)

    def _log(self, number: int, nbytes: int) -> None:
        self._events.append((number, nbytes))
        self.current_bytes += nbytes
        if self.current_bytes > self.peak_bytes:
            self.peak_bytes, self._peak_event = self.current_bytes, len(self._events)


@contextmanager
def _gradients_of(memory: LiveMemory, weights: Iterable[Tensor]) -> Iterator[None]:
    """Register the gradient of each trainable leaf of `weights` once the backward pass has accumulated it."""

    def accumulated(weight: Tensor) -> None:
        assert weight.grad is not None
        memory.register([weight.grad], "gradients")

    trainable = [weight for weight in weights if weight.is_leaf and weight.requires_grad]
    memory.register((weight.grad for weight in trainable if weight.grad is not None), "gradients")
    hooks = [
        weight.register_post_accumulate_grad_hook(accumulated)  # type: ignore[no-untyped-call]
        for weight in trainable
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _phases_of(memory: LiveMemory, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Set the phase during the optimiser's step, and after it."""

    def begin(*_: Any) -> None:
        memory.phase = "optimizer"

    def end(*_: Any) -> None:
        memory.phase = "other"

    hooks = [optimizer.register_step_pre_hook(begin), optimizer.register_step_post_hook(end)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def measure_step(
    step: Callable[[], object],
    *,
    weights: Iterable[Tensor],
    optimizer: torch.optim.Optimizer,
    inputs: Iterable[Tensor] = (),
) -> StepMemory:
    """Run one whole training step and return its peak memory.

    On the CPU, real or fake, the peak is that of the live tensors. On CUDA it is `max_memory_allocated`,
    whose surplus over the live tensors (workspaces, other memory of the process) counts as "other". Call
    it after at least one plain step: the very first one creates the optimiser's states only after the
    activations are freed, so its peak is lower than that of later steps.

    Args:
        step: Runs forward and backward, steps the optimiser, frees the gradients and updates the EMA.
        weights: All resident weights: trained, frozen, and EMA copies.
        optimizer: The optimiser that `step` steps; its states count as "optimizer".
        inputs: Tensors that the caller holds during the step (latents, noise, text), counted as "other".
    """
    weights = list(weights)
    device = weights[0].device
    memory = LiveMemory(device.type)
    memory.register(inputs, "other")
    memory.register(weights, "weights")
    memory.register(optimizer_tensors(optimizer), "optimizer")
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    eager = torch.compiler.set_stance("force_eager")  # compiled code runs below the dispatcher
    with eager, _gradients_of(memory, weights), _phases_of(memory, optimizer), memory:
        step()
    memory.register(optimizer_tensors(optimizer), "optimizer")
    return _with_allocator(memory, device) if on_cuda else StepMemory(memory.peak_bytes, memory.breakdown)


def _with_allocator(memory: LiveMemory, device: torch.device) -> StepMemory:
    """Return the allocator's peak with the live tensors' breakdown; the difference counts as "other"."""
    peak, breakdown = torch.cuda.max_memory_allocated(device), memory.breakdown
    breakdown["other"] += peak - memory.peak_bytes
    return StepMemory(peak, breakdown)


def _cpu_attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _cpu_attention_backward_flops(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))  # type: ignore[no-untyped-call]


# torch's counter knows only the CUDA attention kernels and would count zero for those of the CPU.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _cpu_attention_backward_flops,
}
FLOP_COUNTS = FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION).flop_registry


class _Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums FLOPs by torch's formulas.

    torch's own counter also follows modules, and its hooks keep checkpointed activations alive: a step that
    fits into memory might not fit while it is counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and add its FLOPs."""
        result = func(*args, **(kwargs or {}))
        if count := FLOP_COUNTS.get(func._overloadpacket):
            self.total += int(count(*args, **(kwargs or {}), out_val=result))
        return result


def count_flops(step: Callable[[], object]) -> float:
    """Return the FLOPs of products and convolutions in `step`, backward included; a multiply-add is two."""
    with _Flops() as flops:
        step()
    return float(flops.total)


@dataclass
class StepTimer:
    """Wall-clock timer of steps, each from and to an idle device: `with timer: step()`.

    The first `warmup` steps (allocation, kernel choice) count in the total, not in median and quartiles.
    """

    warmup: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seconds: list[float] = field(default_factory=list)
    _began: float = field(default=0.0, repr=False)

    def __enter__(self) -> "StepTimer":
        self._began = self._now()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.seconds.append(self._now() - self._began)

    @property
    def total_s(self) -> float:
        """Seconds of all steps."""
        return sum(self.seconds)

    @property
    def median_s(self) -> float:
        """Median seconds of a step after warm-up; NaN before there is one."""
        steady = self._steady
        return statistics.median(steady) if steady else float("nan")

    @property
    def iqr_s(self) -> tuple[float, float]:
        """Lower and upper quartile of a step's seconds after warm-up; NaN below two of them."""
        if len(self._steady) < 2:
            return float("nan"), float("nan")
        lower, _, upper = statistics.quantiles(self._steady, n=4, method="inclusive")
        return lower, upper

    @property
    def _steady(self) -> list[float]:
        return self.seconds[self.warmup :]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

"""How long a device takes for a list of operations: a roofline over each, and a queue that they wait in.

An operation takes as long as the slower of its arithmetic and its memory traffic (Williams, Waterman and
Patterson, "Roofline: an insightful visual performance model", 2009). A processor issues it first. A GPU runs
what is issued in the background: where its operations are short, a step takes as long as issuing them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["product", "convolution", "movement", "cast"]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation on tensors that a device runs.

    Attributes:
        kind: What it computes; a movement nothing worth counting. Autocast issues casts by itself, without
            Python, so they cost the host less.
        half: Whether it computes in bfloat16 or float16.
        flops: A multiply-add is two.
        nbytes: Read and written; a tensor that is changed in place counts as both.
    """

    kind: Kind
    half: bool
    flops: int
    nbytes: int


@dataclass(frozen=True)
class Device:
    """What a device attains, not what its datasheet promises; rates a second.

    Attributes:
        name: For people.
        product: FLOP/s of products in float32.
        convolution: FLOP/s of convolutions in float32; with tensor cores they run in TF32.
        half: FLOP/s of products and convolutions in bfloat16.
        bandwidth: Bytes/s that operations read and write.
        issue_s: Seconds that the host takes to issue an operation, Python included.
        issue_cast_s: The same of a cast that autocast inserts, without Python.
        least_s: Seconds that the shortest operation takes once it runs.
        queued: Whether the host goes on while an operation runs, as with CUDA.
        memory_bytes: That it has; None: not known.
        basis: Where the figures are from, in a few words.
    """

    name: str
    product: float
    convolution: float
    half: float
    bandwidth: float
    issue_s: float
    issue_cast_s: float
    least_s: float
    queued: bool
    memory_bytes: int | None
    basis: str

    def takes(self, operation: Operation) -> float:
        """Seconds that an operation runs, once it is issued."""
        if not operation.flops:
            return self.least_s + operation.nbytes / self.bandwidth
        full = self.convolution if operation.kind == "convolution" else self.product
        rate = self.half if operation.half else full
        return self.least_s + max(operation.flops / rate, operation.nbytes / self.bandwidth)


def seconds(operations: Iterable[Operation], device: Device) -> float:
    """Seconds from issuing the first operation until the last has run, in their order, one at a time."""
    issued = idle = 0.0
    for operation in operations:
        issued += device.issue_cast_s if operation.kind == "cast" else device.issue_s
        idle = max(issued, idle) + device.takes(operation)
        if not device.queued:
            issued = idle
    return idle

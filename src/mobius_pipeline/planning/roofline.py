"""Predict the time of a list of operations on a device, with a roofline model and a queue.

An operation takes as long as the slower of its arithmetic and its memory traffic (Williams, Waterman and
Patterson, "Roofline: an insightful visual performance model", 2009). The host issues each operation first. A
GPU runs issued operations in the background, so a step with short operations takes as long as issuing them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["product", "convolution", "movement", "cast"]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation on tensors that a device runs.

    Attributes:
        kind: Kind of work. A movement has no FLOPs worth counting. Casts are issued by autocast without
            Python, so they take less of the host's time.
        half: Whether it computes in bfloat16 or float16.
        flops: FLOPs; a multiply-add counts as two.
        nbytes: Bytes read and written; a tensor that is changed in place counts twice.
    """

    kind: Kind
    half: bool
    flops: int
    nbytes: int


@dataclass(frozen=True)
class Device:
    """Rates that a device attains, which are below the peaks of its datasheet.

    Attributes:
        name: Name to show.
        product: FLOP/s of matrix products in float32.
        convolution: FLOP/s of convolutions in float32; with tensor cores they run in TF32.
        half: FLOP/s of products and convolutions in bfloat16.
        bandwidth: Bytes/s that operations read and write.
        issue_s: Seconds for the host to issue an operation, Python included.
        issue_cast_s: Seconds for the host to issue a cast that autocast inserts, without Python.
        least_s: Shortest run time of an operation in seconds.
        queued: Whether the host continues while an operation runs, as with CUDA.
        memory_bytes: Memory of the device; None: not known.
        basis: Source of the figures, as a phrase for reports.
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
        """Return the run time of an operation in seconds, without issuing it."""
        if not operation.flops:
            return self.least_s + operation.nbytes / self.bandwidth
        full = self.convolution if operation.kind == "convolution" else self.product
        rate = self.half if operation.half else full
        return self.least_s + max(operation.flops / rate, operation.nbytes / self.bandwidth)


def seconds(operations: Iterable[Operation], device: Device) -> float:
    """Return the seconds from issuing the first operation to the end of the last; they run one at a time."""
    issued = idle = 0.0
    for operation in operations:
        issued += device.issue_cast_s if operation.kind == "cast" else device.issue_s
        idle = max(issued, idle) + device.takes(operation)
        if not device.queued:
            issued = idle
    return idle

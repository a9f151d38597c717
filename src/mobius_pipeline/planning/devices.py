"""Devices to plan for: GPUs of a table by name, others by the figures of their datasheet."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from mobius_pipeline.planning.roofline import Device
from mobius_pipeline.runtime.config import Config
from mobius_pipeline.runtime.errors import MobiusError

HERE = "here"  # measure the device of this machine

Positive = Annotated[float, Field(gt=0)]


class Datasheet(Config):
    """A device's peak figures, without structured sparsity.

    Attributes:
        name: Name to show.
        tflops_float32: TFLOP/s in float32 without tensor cores, used for matrix products.
        tflops_tf32: TFLOP/s in TF32, used for convolutions; without TF32 units, that of float32.
        tflops_bfloat16: TFLOP/s in bfloat16 with float32 accumulation; without such units, that of float32.
        gb_per_s: Memory bandwidth in 10^9 bytes per second.
        memory_gib: Memory in GiB; null: not known.
    """

    name: str = Field(default="your device", min_length=1)
    tflops_float32: Positive
    tflops_tf32: Positive
    tflops_bfloat16: Positive
    gb_per_s: Positive
    memory_gib: Positive | None = None


@dataclass(frozen=True)
class DatasheetEntry:
    """An entry of the table: a datasheet's peaks, memory (GiB) and URL."""

    tflops: tuple[float, float, float]  # float32, TF32, bfloat16
    gb_per_s: float
    memory_gib: int
    source: str


_NVIDIA = "https://www.nvidia.com/en-us"
_ADA = "https://images.nvidia.com/aem-dam/Solutions/Data-Center/l4/nvidia-ada-gpu-architecture-whitepaper-v2.1.pdf"
_A100 = (
    "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/"
    "nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf"
)
# If a datasheet gives tensor cores only "with sparsity", half of that: dense products have half the rate.
KNOWN = {
    "H200 SXM": DatasheetEntry((67, 494.5, 989.5), 4800, 141, f"{_NVIDIA}/data-center/h200/"),
    "H100 SXM": DatasheetEntry((67, 494.5, 989.5), 3350, 80, f"{_NVIDIA}/data-center/h100/"),
    "A100 SXM 80GB": DatasheetEntry((19.5, 156, 312), 2039, 80, _A100),
    "A100 PCIe 80GB": DatasheetEntry((19.5, 156, 312), 1935, 80, _A100),
    "L40S": DatasheetEntry((91.6, 183, 362.05), 864, 48, f"{_NVIDIA}/data-center/l40s/"),
    "RTX 4090": DatasheetEntry((82.6, 82.6, 165.2), 1008, 24, _ADA),
}


_CHOICES = (
    f"Use one of {', '.join(KNOWN)}, or {HERE!r} to measure this machine, or give the TFLOP/s and GB/s of "
    "your device's datasheet."
)


@dataclass(frozen=True)
class Attained:
    """Shares of a datasheet's peaks that a training step attains; the seconds are those of `Device`."""

    float32: float
    tf32: float
    bfloat16: float
    bandwidth: float
    least_s: float
    issue_s: float
    issue_cast_s: float


# Fitted by `benchmarks/plan_gpu.py` to measurements on an H200 (docs/performance.md). Other devices are
# assumed to attain the same shares.
ON_H200 = Attained(
    float32=0.89,
    tf32=0.146,
    bfloat16=0.58,
    bandwidth=0.47,
    least_s=8.4e-6,
    issue_s=79e-6,
    issue_cast_s=17e-6,
)


def known_device(name: str) -> Device:
    """Return a device of the table by its name; case, spaces and hyphens do not matter.

    Raises:
        MobiusError: If the table has no such device; the message lists its names.
    """
    found = {_plain(known): known for known in KNOWN}.get(_plain(name))
    if found is None:
        raise MobiusError(f"There is no device {name!r} in the table. {_CHOICES}")
    known = KNOWN[found]
    float32, tf32, bfloat16 = known.tflops
    sheet = Datasheet(
        name=found,
        tflops_float32=float32,
        tflops_tf32=tf32,
        tflops_bfloat16=bfloat16,
        gb_per_s=known.gb_per_s,
        memory_gib=known.memory_gib,
    )
    return from_datasheet(sheet)


def check_choice(device: str | Datasheet | None, price_per_hour: float | None) -> None:
    """Check the chosen device and price before the plan is computed, which takes minutes.

    Raises:
        MobiusError: If the device is not known, or a price is given without one.
    """
    if isinstance(device, str) and device != HERE:
        known_device(device)
    if device is None and price_per_hour is not None:
        raise MobiusError("A price per hour needs a device to predict hours for. " + _CHOICES)


def from_datasheet(sheet: Datasheet, attained: Attained = ON_H200) -> Device:
    """Estimate the rates of a device from its datasheet and the shares of the peaks in `attained`."""
    product = 1e12 * sheet.tflops_float32 * attained.float32
    return Device(
        name=sheet.name,
        product=product,
        # cuDNN chooses the faster algorithm.
        convolution=max(1e12 * sheet.tflops_tf32 * attained.tf32, product),
        half=max(1e12 * sheet.tflops_bfloat16 * attained.bfloat16, product),
        bandwidth=1e9 * sheet.gb_per_s * attained.bandwidth,
        issue_s=attained.issue_s,
        issue_cast_s=attained.issue_cast_s,
        least_s=attained.least_s,
        queued=True,
        memory_bytes=None if sheet.memory_gib is None else int(sheet.memory_gib * 2**30),
        basis="the device's datasheet and the shares of its peaks that an H200 attained",
    )


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())

"""The plan of an encoding (bytes, hours and cost), as JSON and as a table."""

from dataclasses import asdict, dataclass

from pydantic import Field
from rich.console import Console
from rich.table import Table

from mobius_pipeline.planning.encoding import StoreBytes, StoreFormat
from mobius_pipeline.planning.roofline import Device
from mobius_pipeline.planning.timing import HOUR_S, duration, interval, money
from mobius_pipeline.runtime.document import Document

GB = 1e9  # the unit in which cloud providers bill storage


class Hours(Document):
    """Hours of an encoding."""

    encode: float = Field(description="h; on the devices")
    decode: float | None = Field(description="h; on the CPU cores; null: not counted")
    all: float = Field(description="h; the longer of both, which run in parallel")


@dataclass(frozen=True)
class Speed:
    """The speed of encoding clips.

    Attributes:
        device: Device that runs the VAE and the text encoder.
        clip_s: Seconds per clip on the device.
        caption_s: Seconds per caption on the device.
        decode_rate: Clips per second that a CPU core decodes; None: not known.
        cores: CPU cores that decode for each device.
        devices: Number of devices that work in parallel.
    """

    device: Device
    clip_s: float
    caption_s: float
    decode_rate: float | None
    cores: int
    devices: int

    def hours(self, clips: int, captions: float) -> Hours:
        """Return the hours of encoding this many clips and captions."""
        encode = (clips * self.clip_s + captions * self.caption_s) / self.devices / HOUR_S
        decode = None
        if self.decode_rate is not None:
            decode = clips / (self.decode_rate * self.cores * self.devices) / HOUR_S
        return Hours(encode=encode, decode=decode, all=max(encode, decode or 0.0))


@dataclass(frozen=True)
class Prices:
    """Prices of a device per hour, with its share of the machine, and of 10^9 stored bytes per month."""

    per_hour: float | None
    per_gb_month: float | None


class StoredBytes(Document):
    """Bytes of a latents store, and its number of shards."""

    latents: int = Field(description="bytes; mean and log-variance of all clips")
    captions: int = Field(description="bytes; text embeddings")
    overhead: int = Field(description="bytes; headers and index")
    total: int = Field(description="bytes of all files")
    shards: int = Field(description="number of shards")


class EncodingPlan(Document):
    """The size of a latents store, and the time and cost of encoding it."""

    clips: int = Field(description="number of clips")
    format: StoreFormat
    bytes: StoredBytes
    prices: Prices
    cost_per_month: float | None = Field(description="cost of storage; null: no price")
    speed: Speed | None = Field(description="null: no device was named")
    hours: Hours | None = Field(description="null: no device was named")
    cost: float | None = Field(description="cost of encoding; null: no device or no price")


def build_encoding_plan(
    clips: int, form: StoreFormat, stored: StoreBytes, speed: Speed | None, prices: Prices
) -> EncodingPlan:
    """Return the plan of an encoding; without `speed` it has no hours."""
    hours = cost = None
    if speed is not None:
        hours = speed.hours(clips, clips * form.captions_per_clip)
        cost = None if prices.per_hour is None else hours.all * speed.devices * prices.per_hour
    return EncodingPlan(
        clips=clips,
        format=form,
        bytes=StoredBytes(**asdict(stored), total=stored.total),
        prices=prices,
        cost_per_month=None if prices.per_gb_month is None else stored.total / GB * prices.per_gb_month,
        speed=speed,
        hours=hours,
        cost=cost,
    )


def encoding_table(plan: EncodingPlan) -> Table:
    """Return the plan as a table with three columns: quantity, value, and how the value comes about."""
    form, size, stored = plan.format, plan.format.size, plan.bytes
    clips = f"{plan.clips:,} clips of {size.frames} frames, {size.height} x {size.width} px"
    table = Table("", "", "", title=f"Encoding {clips}", show_header=False)
    table.columns[1].justify = "right"
    each = f"{decimal(form.latents_bytes)} per clip: mean and log-variance, float16"
    table.add_row("latents", decimal(stored.latents), each)
    each = f"{decimal(form.caption_bytes)} per caption: {form.tokens} x {form.text_width} float16"
    table.add_row("captions", decimal(stored.captions), f"{each}, {form.captions_per_clip:g} per clip")
    table.add_row("index, headers", decimal(stored.overhead), f"{stored.shards:,} files")
    table.add_row("store", decimal(stored.total), "all of these", style="bold")
    if plan.cost_per_month is not None:
        price = f"storage, at {plan.prices.per_gb_month:g} per GB and month"
        table.add_row("cost per month", money(plan.cost_per_month), price)
    if plan.speed is not None and plan.hours is not None:
        _add_speed(table, plan.speed, plan.hours)
    if plan.cost is not None:
        price = f"of the encoding, at {plan.prices.per_hour:g} per device and hour"
        table.add_row("cost", money(plan.cost), price, style="bold")
    return table


def _add_speed(table: Table, speed: Speed, hours: Hours) -> None:
    each = f"{speed.devices} x {speed.device.name}, each takes {interval(speed.clip_s)} per clip"
    table.add_row("encode", duration(hours.encode), each)
    if hours.decode is None:
        table.add_row("decode", "not counted", "give --decode-rate or --sample-clip")
    else:
        cores = f"{speed.decode_rate:.3g} clips/s per core, {speed.cores} cores per device"
        table.add_row("decode", duration(hours.decode), cores)
    slower = "decode" if (hours.decode or 0.0) > hours.encode else "encode"
    table.add_row("time", duration(hours.all), f"both in parallel; {slower} takes longer", style="bold")


def print_encoding(plan: EncodingPlan, console: Console) -> None:
    """Print the plan."""
    console.print(encoding_table(plan))
    if plan.speed is None:
        console.print("To predict hours and cost, name a device: --device, --gpus, --price-per-hour.")
        return
    basis = plan.speed.device.basis
    console.print(f"Times are based on {basis}. They do not include file access.", soft_wrap=False)


def decimal(nbytes: float) -> str:
    """Format bytes in kB, MB, GB or TB (powers of 1000), the units in which storage is sold."""
    for unit, of_unit in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if nbytes >= of_unit:
            return f"{nbytes / of_unit:.2f} {unit}"
    return f"{nbytes / 1e3:.1f} kB"

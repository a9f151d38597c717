"""The plan of an encoding (bytes, hours and cost), as JSON and as a table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from mobius_pipeline.planning.encoding import StoreBytes, StoreFormat
from mobius_pipeline.planning.roofline import Device
from mobius_pipeline.planning.timing import HOUR_S, duration, interval, money

GB = 1e9  # the unit in which cloud providers bill storage


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

    def hours(self, clips: int, captions: float) -> dict[str, float | None]:
        """Return the hours of encoding (devices), of decoding (CPU cores), and of all: the longer of both."""
        encode = (clips * self.clip_s + captions * self.caption_s) / self.devices / HOUR_S
        decode = None
        if self.decode_rate is not None:
            decode = clips / (self.decode_rate * self.cores * self.devices) / HOUR_S
        return {"encode": encode, "decode": decode, "all": max(encode, decode or 0.0)}


@dataclass(frozen=True)
class Prices:
    """Prices of a device per hour, with its share of the machine, and of 10^9 stored bytes per month."""

    per_hour: float | None
    per_gb_month: float | None


def encoding_report(
    clips: int, form: StoreFormat, stored: StoreBytes, speed: Speed | None, prices: Prices
) -> dict[str, Any]:
    """Return the plan as a JSON-serialisable dictionary; without `speed` it has no hours."""
    report: dict[str, Any] = {
        "clips": clips,
        "format": asdict(form) | {"size": form.size.model_dump()},
        "bytes": asdict(stored) | {"total": stored.total},
        "prices": asdict(prices),
        "cost_per_month": None,
    }
    if prices.per_gb_month is not None:
        report["cost_per_month"] = stored.total / GB * prices.per_gb_month
    if speed is not None:
        hours = speed.hours(clips, clips * form.captions_per_clip)
        paid = None if prices.per_hour is None else _total(hours) * speed.devices * prices.per_hour
        report |= {"speed": asdict(speed), "hours": hours, "cost": paid}
    return report


def _total(hours: Mapping[str, float | None]) -> float:
    return hours["all"] or 0.0


def encoding_table(report: Mapping[str, Any]) -> Table:
    """Return the plan as a table with three columns: quantity, value, and how the value comes about."""
    form, size = report["format"], report["format"]["size"]
    clips = f"{report['clips']:,} clips of {size['frames']} frames, {size['height']} x {size['width']} px"
    table = Table("", "", "", title=f"Encoding {clips}", show_header=False)
    table.columns[1].justify = "right"
    stored, shards = report["bytes"], report["bytes"]["shards"]
    latents, captions = stored["latents"] / report["clips"], 2 * form["tokens"] * form["text_width"]
    table.add_row(
        "latents", decimal(stored["latents"]), f"{decimal(latents)} per clip: mean and log-variance, float16"
    )
    each = f"{decimal(captions)} per caption: {form['tokens']} x {form['text_width']} float16"
    table.add_row("captions", decimal(stored["captions"]), f"{each}, {form['captions_per_clip']:g} per clip")
    table.add_row("index, headers", decimal(stored["overhead"]), f"{shards:,} files")
    table.add_row("store", decimal(stored["total"]), "all of these", style="bold")
    if report["cost_per_month"] is not None:
        price = report["prices"]["per_gb_month"]
        table.add_row(
            "cost per month", money(report["cost_per_month"]), f"storage, at {price:g} per GB and month"
        )
    if "speed" in report:
        _add_speed(table, report)
    return table


def _add_speed(table: Table, report: Mapping[str, Any]) -> None:
    speed, hours = report["speed"], report["hours"]
    many = f"{speed['devices']} x {speed['device']['name']}"
    table.add_row(
        "encode", duration(hours["encode"]), f"{many}, each takes {interval(speed['clip_s'])} per clip"
    )
    if hours["decode"] is None:
        table.add_row("decode", "not counted", "give --decode-rate or --sample-clip")
    else:
        cores = f"{speed['decode_rate']:.3g} clips/s per core, {speed['cores']} cores per device"
        table.add_row("decode", duration(hours["decode"]), cores)
    slower = "decode" if (hours["decode"] or 0.0) > hours["encode"] else "encode"
    table.add_row("time", duration(hours["all"]), f"both in parallel; {slower} takes longer", style="bold")
    if report["cost"] is not None:
        price = f"{report['prices']['per_hour']:g} per device and hour"
        table.add_row("cost", money(report["cost"]), f"of the encoding, at {price}", style="bold")


def print_encoding(report: Mapping[str, Any], console: Console) -> None:
    """Print the plan."""
    console.print(encoding_table(report))
    if "speed" in report:
        basis = report["speed"]["device"]["basis"]
        console.print(f"Times are based on {basis}. They do not include file access.", soft_wrap=False)
    else:
        console.print("To predict hours and cost, name a device: --device, --gpus, --price-per-hour.")


def decimal(nbytes: float) -> str:
    """Format bytes in kB, MB, GB or TB (powers of 1000), the units in which storage is sold."""
    for unit, of_unit in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if nbytes >= of_unit:
            return f"{nbytes / of_unit:.2f} {unit}"
    return f"{nbytes / 1e3:.1f} kB"

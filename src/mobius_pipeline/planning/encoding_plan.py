"""The plan of encoding many clips: bytes, hours and money, as JSON and as a table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from mobius_pipeline.planning.encoding import StoreBytes, StoreFormat
from mobius_pipeline.planning.roofline import Device
from mobius_pipeline.planning.timing import HOUR_S, duration, interval, money

GB = 1e9  # as clouds bill


@dataclass(frozen=True)
class Speed:
    """How fast clips are encoded.

    Attributes:
        device: That runs the VAE and the text encoder.
        clip_s: Seconds of the device for a clip.
        caption_s: Seconds of the device for a caption.
        decode_rate: Clips that a CPU core decodes in a second; None: not known.
        cores: CPU cores that decode for each device.
        devices: How many work side by side.
    """

    device: Device
    clip_s: float
    caption_s: float
    decode_rate: float | None
    cores: int
    devices: int

    def hours(self, clips: int, captions: float) -> dict[str, float | None]:
        """Hours that all devices, and all cores, have to work; the longer of the two is what it takes."""
        encode = (clips * self.clip_s + captions * self.caption_s) / self.devices / HOUR_S
        decode = None
        if self.decode_rate is not None:
            decode = clips / (self.decode_rate * self.cores * self.devices) / HOUR_S
        return {"encode": encode, "decode": decode, "all": max(encode, decode or 0.0)}


@dataclass(frozen=True)
class Prices:
    """Of a device for an hour, with its share of the machine, and of 10^9 bytes stored for a month."""

    per_hour: float | None
    per_gb_month: float | None


def encoding_report(
    clips: int, form: StoreFormat, stored: StoreBytes, speed: Speed | None, prices: Prices
) -> dict[str, Any]:
    """The whole plan, JSON-serialisable; without a speed it has bytes alone."""
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
    """The plan as a table: what is asked for, what it takes, and how it comes about."""
    form, size = report["format"], report["format"]["size"]
    clips = f"{report['clips']:,} clips of {size['frames']} frames, {size['height']} x {size['width']} px"
    table = Table("", "", "", title=f"Encoding {clips}", show_header=False)
    table.columns[1].justify = "right"
    stored, shards = report["bytes"], report["bytes"]["shards"]
    latents, captions = stored["latents"] / report["clips"], 2 * form["tokens"] * form["text_width"]
    table.add_row(
        "latents", decimal(stored["latents"]), f"{decimal(latents)} a clip: mean and log-variance, float16"
    )
    each = f"{decimal(captions)} a caption: {form['tokens']} x {form['text_width']} float16"
    table.add_row("captions", decimal(stored["captions"]), f"{each}, {form['captions_per_clip']:g} a clip")
    table.add_row("index, headers", decimal(stored["overhead"]), f"{shards:,} files")
    table.add_row("store", decimal(stored["total"]), "all of these", style="bold")
    if report["cost_per_month"] is not None:
        price = report["prices"]["per_gb_month"]
        table.add_row(
            "cost a month", money(report["cost_per_month"]), f"of storage, at {price:g} a GB and month"
        )
    if "speed" in report:
        _add_speed(table, report)
    return table


def _add_speed(table: Table, report: Mapping[str, Any]) -> None:
    speed, hours = report["speed"], report["hours"]
    many = f"{speed['devices']} x {speed['device']['name']}"
    table.add_row("encode", duration(hours["encode"]), f"{many}, {interval(speed['clip_s'])} a clip each")
    if hours["decode"] is None:
        table.add_row("decode", "not counted", "give --decode-rate or --sample-clip")
    else:
        cores = f"{speed['decode_rate']:.3g} clips/s a core, {speed['cores']} cores for each device"
        table.add_row("decode", duration(hours["decode"]), cores)
    slower = "decode" if (hours["decode"] or 0.0) > hours["encode"] else "encode"
    table.add_row("time", duration(hours["all"]), f"both at once; {slower} takes longer", style="bold")
    if report["cost"] is not None:
        price = f"{report['prices']['per_hour']:g} an hour and device"
        table.add_row("cost", money(report["cost"]), f"once, at {price}", style="bold")


def print_encoding(report: Mapping[str, Any], console: Console) -> None:
    """Print the plan."""
    console.print(encoding_table(report))
    if "speed" in report:
        basis = report["speed"]["device"]["basis"]
        console.print(f"Times rest on {basis}. Reading and writing files is not in them.", soft_wrap=False)
    else:
        console.print("For hours and cost of the encoding name a device: --device, --gpus, --price-per-hour.")


def decimal(nbytes: float) -> str:
    """Bytes for people, in kB, MB, GB or TB of powers of 1000, as storage is sold."""
    for unit, of_unit in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if nbytes >= of_unit:
            return f"{nbytes / of_unit:.2f} {unit}"
    return f"{nbytes / 1e3:.1f} kB"

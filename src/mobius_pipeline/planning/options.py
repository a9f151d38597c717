"""The command line of `mobius plan`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console

from mobius_pipeline.planning.devices import HERE, KNOWN, Datasheet, check_choice
from mobius_pipeline.planning.project import find_project
from mobius_pipeline.runtime.click_types import LocalOutput, LocalPath
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.tracking import api as tracking
from mobius_pipeline.tracking.settings import PROJECT_SETTINGS

WIDTH = 100  # columns

Command = TypeVar("Command", bound=Callable[..., Any])
Positive = click.FloatRange(0, min_open=True)
Count = click.IntRange(1)

_TRAINING = {"batch": "--batch", "memory": "--memory", "steps": "--steps"}
_ENCODING = {
    "gpus": "--gpus",
    "captions_per_clip": "--captions-per-clip",
    "decode_rate": "--decode-rate",
    "sample_clip": "--sample-clip",
    "cores": "--cores",
    "price_per_gb_month": "--price-per-gb-month",
}


def _together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_of_the_model = _together(
    click.option(
        "--config",
        type=LocalPath(path_type=Path),
        help="A UNet's config.json, or a model's folder in diffusers' layout. [default: the project's base]",
    ),
    click.option("--frames", type=Count, help="Frames per clip. [default: the project's, or 16]"),
    click.option("--height", type=Count, help="Height in pixels. [default: the project's, or 256]"),
    click.option("--width", type=Count, help="Width in pixels. [default: the project's, or 256]"),
    click.option("--text-tokens", type=Count, help="Tokens per caption. [default: the tokenizer's, or 77]"),
    click.option("--output", type=LocalOutput(path_type=Path), help="JSON file to write the plan to."),
)
_of_the_training = _together(
    click.option("--batch", type=Count, default=2, show_default=True, help="Clips per step."),
    click.option(
        "--memory",
        type=Positive,
        default=24,
        show_default=True,
        help="Memory in GiB to find the largest batch and frame count for.",
    ),
    click.option(
        "--steps",
        type=Count,
        default=10_000,
        show_default=True,
        help="Steps of the training whose hours and cost are predicted.",
    ),
)
_of_the_device = _together(
    click.option(
        "--device",
        metavar="NAME",
        help=f"Also predict time, for one of {', '.join(KNOWN)}; {HERE} measures this machine.",
    ),
    click.option(
        "--tflops",
        type=Positive,
        nargs=3,
        metavar="FLOAT32 TF32 BFLOAT16",
        help="TFLOP/s of a device that is not listed: datasheet peaks without sparsity.",
    ),
    click.option("--bandwidth", type=Positive, help="GB/s of that device's memory."),
    click.option(
        "--price-per-hour",
        type=Positive,
        help="Price of one device per hour, in any currency; also predicts the cost.",
    ),
)
_of_the_encoding = _together(
    click.option("--clips", type=Count, help="Plan the encoding of this many clips instead of a training."),
    click.option(
        "--gpus", type=Count, default=64, show_default=True, help="With --clips: number of devices."
    ),
    click.option(
        "--captions-per-clip",
        type=Positive,
        default=1,
        show_default=True,
        help="With --clips: distinct captions per clip, on average.",
    ),
    click.option("--decode-rate", type=Positive, help="With --clips: clips/s that a CPU core decodes."),
    click.option(
        "--sample-clip",
        type=LocalPath(path_type=Path),
        help="With --clips: a video to measure the decode rate with, on this machine.",
    ),
    click.option(
        "--fps",
        type=Positive,
        help="Frame rate to decode --sample-clip at. [default: the project's, or 8]",
    ),
    click.option(
        "--cores", type=Count, default=8, show_default=True, help="With --clips: CPU cores for each device."
    ),
    click.option(
        "--price-per-gb-month",
        type=Positive,
        help="With --clips: price of 10^9 bytes of storage per month.",
    ),
)


@click.command("plan", help="Predict memory, FLOPs, hours and cost of a training, or of encoding clips.")
@_of_the_model
@_of_the_training
@_of_the_device
@_of_the_encoding
@click.pass_context
def plan_command_line(context: click.Context, /, clips: int | None, **options: Any) -> None:
    """Plan a training or an encoding; inside a project, a training's plan is also recorded in MLflow."""
    _refuse(context, _TRAINING if clips else _ENCODING, "a training" if clips else "--clips")
    device, price = _device(options), options["price_per_hour"]
    check_choice(device, price)
    model = _model(options)
    from mobius_pipeline.planning import command  # torch takes seconds to load
    from mobius_pipeline.planning.encoding_plan import Prices

    console = Console(width=WIDTH, highlight=False)
    planned, output = command.Planned(**model), options["output"]
    if clips is None:
        if (Path.cwd() / PROJECT_SETTINGS).is_file():
            tracking.configure(tracking.read_project(Path.cwd()), Path.cwd())
            tracking.check()
        training = {name: options[name] for name in _TRAINING}
        command.plan_base(console, planned, device=device, price_per_hour=price, output=output, **training)
        return
    workers = {name: options[name] for name in ("gpus", "cores", "decode_rate", "sample_clip")}
    command.plan_encoding(
        console,
        clips,
        planned,
        command.Workers(**workers),
        captions_per_clip=options["captions_per_clip"],
        device=device,
        prices=Prices(price, options["price_per_gb_month"]),
        output=output,
    )


def _refuse(context: click.Context, others: dict[str, str], of: str) -> None:
    for name, option in others.items():
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} is for {of}.", context)


def _device(options: dict[str, Any]) -> str | Datasheet | None:
    tflops, bandwidth = options["tflops"], options["bandwidth"]
    if (tflops is None) != (bandwidth is None):
        raise click.UsageError("--tflops and --bandwidth belong together: give both, or neither.")
    if tflops is None:
        return options["device"]  # type: ignore[no-any-return]
    if options["device"] is not None:
        raise click.UsageError("--device names a device, --tflops describes one: give either of them.")
    float32, tf32, bfloat16 = tflops
    return Datasheet(tflops_float32=float32, tflops_tf32=tf32, tflops_bfloat16=bfloat16, gb_per_s=bandwidth)


def _model(options: dict[str, Any]) -> dict[str, Any]:
    """Return the model's path and the clip size: from the options, the project or the defaults."""
    usual: dict[str, Any] = {"frames": 16, "height": 256, "width": 256, "fps": 8.0}
    source = options["config"]
    if source is None:
        project = find_project(Path.cwd())
        if project is None:
            raise click.UsageError("Name a model with --config, or run this command in a project's folder.")
        source = project.base
        if not source.is_dir():
            raise MobiusError(
                f"The project has no base model in {source} yet. Run `kedro run --pipelines=base`, or name a "
                "model with --config."
            )
        usual = {name: getattr(project.clip, name) for name in usual}
    sizes = {name: value if options[name] is None else options[name] for name, value in usual.items()}
    return {"source": source, "text_tokens": options["text_tokens"], **sizes}

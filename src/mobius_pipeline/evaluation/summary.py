"""The comparison in words and as a table: pure functions of `comparison.json`, for report and terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Json = Mapping[str, Any]

MODES = ("serial", "parallel")
MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"  # stands where nothing was measured


class Row(NamedTuple):
    """One measure of the comparison, as text; `change` is parallel against serial."""

    name: str
    start: str
    serial: str
    parallel: str
    change: str


def relative_percent(serial: Json, parallel: Json) -> dict[str, float | None]:
    """Return 100 * (parallel / serial - 1) a measure; None where serial's is zero or was not measured."""
    names = ("trainable_parameters", "peak_memory_bytes", "step_s", "training_s", "heldout_loss")
    change = {name: _change(serial[name], parallel[name]) for name in names}
    matches = (serial["quality"].get("prompt_match"), parallel["quality"].get("prompt_match"))
    return {**change, "prompt_match": _change(*matches)}


def _change(serial: float | None, parallel: float | None) -> float | None:
    return None if not serial or parallel is None else 100 * (parallel / serial - 1)


def rows(comparison: Json) -> list[Row]:
    """Return the comparison's table, one measure a row; the T2I start stands beside the held-out loss."""
    change = comparison["relative_percent"]
    start = f"{comparison['t2i']['heldout_loss']:.4f}"

    serial, parallel = (comparison["modes"][mode] for mode in MODES)

    def row(title: str, key: str, text: Any, start: str = "") -> Row:
        return Row(title, start, text(serial[key]), text(parallel[key]), percent(change[key]))

    scores = [share(mode["quality"]["prompt_match"]) for mode in (serial, parallel)]
    return [
        row("Trainable parameters", "trainable_parameters", count),
        row("Peak memory", "peak_memory_bytes", size),
        row("Median step time", "step_s", duration),
        row("Training time", "training_s", duration),
        row("Held-out loss", "heldout_loss", "{:.4f}".format, start),
        Row("Samples that match", "", scores[0], scores[1], percent(change["prompt_match"])),
    ]


def size(amount: float) -> str:
    """Write bytes in MiB or GiB."""
    return f"{amount / 2**30:.2f} GiB" if amount >= 2**30 else f"{amount / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """Write seconds in ms, s, min or h."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 600:  # in one unit, so that two trainings of minutes compare at a glance
        return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def count(number: float) -> str:
    """Write a number in thousands, millions or billions."""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.2f} {unit}"
    return f"{number:.0f}"


def percent(change: float | None) -> str:
    """Write a relative change in per cent, with its sign."""
    if change is None:
        return NONE
    text = f"{abs(change):.1f}%"
    return text if text == "0.0%" else f"{'+' if change > 0 else MINUS}{text}"


def share(value: float | None) -> str:
    """Write a share of 1 in per cent, without a sign."""
    return NONE if value is None else f"{100 * value:.0f}%"


def verdict(comparison: Json) -> str:
    """Return one honest paragraph of plain words: cost, held-out loss, samples, and what they cannot tell."""
    sentences = [
        _unfairness(comparison["fairness"]),
        _memory(comparison["modes"]),
        _time(comparison["modes"]),
        _loss(comparison),
        _samples(comparison["modes"], comparison["references"]),
        "Both were trained once, on one seed: no interval here counts what another seed would change, and a "
        "small difference may turn on it.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _unfairness(fairness: Json) -> str:
    differing = [name.removeprefix("same_") for name, same in fairness.items() if not same]
    return f"This comparison is not fair: the modes differ in {listed(differing)}." if differing else ""


def _memory(modes: Json) -> str:
    serial, parallel = (modes[mode]["peak_memory_bytes"] for mode in MODES)
    amounts = f"({size(parallel)} against {size(serial)})"
    if percent(_change(serial, parallel)) == "0.0%":
        return f"Both modes need the same peak memory {amounts}."
    return f"Parallel needs {_less_or_more(serial, parallel, 'peak memory')} than serial {amounts}."


def _time(modes: Json) -> str:
    serial, parallel = (modes[mode]["step_s"] for mode in MODES)
    amounts = f"({duration(parallel)} against {duration(serial)}, medians)"
    if _overlap(modes["serial"]["step_s_iqr"], modes["parallel"]["step_s_iqr"]):
        return f"Their step times {amounts} are a tie: the middle halves of the measured steps overlap."
    whole = tuple(modes[mode]["training_s"] for mode in MODES)
    return (
        f"A parallel step takes {_less_or_more(serial, parallel, 'time')} {amounts}; "
        f"the whole training took {duration(whole[1])} against {duration(whole[0])}."
    )


def _loss(comparison: Json) -> str:
    modes, changes = comparison["modes"], comparison["heldout_change"]
    start = comparison["t2i"]["heldout_loss"]
    amounts = [f"{mode} {modes[mode]['heldout_loss']:.4f} ({_interval(changes[mode])})" for mode in MODES]
    return (
        f"Held-out loss, from {start:.4f} at the T2I start, with 95% intervals over "
        f"{changes['serial']['clips']} held-out clips: {listed(amounts)}; "
        f"{_loser(changes['parallel_vs_serial'])}.{_no_progress(changes)}"
    )


def _interval(change: Json) -> str:
    if change["low"] is None:
        return f"{percent(change['percent'])}, one clip, no interval"
    return f"{percent(change['percent'])}, {percent(change['low'])} to {percent(change['high'])}"


def _loser(change: Json) -> str:
    if change["low"] is None or change["low"] <= 0 <= change["high"]:
        return f"parallel against serial ({_interval(change)}) is a tie"
    better = "serial" if change["percent"] > 0 else "parallel"
    return f"{better} is better, parallel against serial being {_interval(change)}"


def _no_progress(changes: Json) -> str:
    stuck = [mode for mode in MODES if changes[mode]["high"] is None or changes[mode]["high"] >= 0]
    return f" Training did not clearly improve {listed(stuck)} over the T2I start." if stuck else ""


def _samples(modes: Json, references: Json) -> str:
    serial, parallel = (modes[mode]["quality"]["prompt_match"] for mode in MODES)
    if serial is None or parallel is None:
        return "Whether samples match their prompts was not scored on this data."
    number = min(len(modes[mode]["samples"]) for mode in MODES)
    return (
        f"Samples that show their prompt's colour, shape and motion: serial {share(serial)}, "
        f"parallel {share(parallel)}{_beside(references)}; {_winner(serial, parallel, number)}."
    )


def _beside(references: Json) -> str:
    names = {"real": "real clips", "still": "a still frame", "random": "a random clip"}
    scores = {name: references[name]["prompt_match"] for name in names if name in references}
    known = [f"{names[name]} {share(score)}" for name, score in scores.items() if score is not None]
    return f" ({listed(known)})" if known else ""


def _winner(serial: float, parallel: float, number: int) -> str:
    """Name the better mode, unless the gap is within two standard errors of shares of `number` samples."""
    pooled = (serial + parallel) / 2
    error = math.sqrt(2 * pooled * (1 - pooled) / number) if number else math.inf
    if abs(parallel - serial) <= 2 * error:
        return f"with {number} samples each that is a tie"
    return f"{'parallel' if parallel > serial else 'serial'} is better"


def _less_or_more(serial: float, parallel: float, what: str) -> str:
    change = 100 * (parallel / serial - 1)
    return f"{abs(change):.1f}% {'less' if change < 0 else 'more'} {what}"


def _overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    return first[0] <= second[1] and second[0] <= first[1]


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))

"""The comparison as a table, and figures as text: pure functions of `comparison.json`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mobius_pipeline.comparison.ties import losses_tie, matches_differ, steps_tie

Json = Mapping[str, Any]

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"  # stands where nothing was measured


class Row(NamedTuple):
    """One measure of the comparison, as text: a value a column, and the change of each against the first.

    A change that is a tie says so.
    """

    name: str
    start: str
    values: tuple[str, ...]
    changes: tuple[str, ...]


def relative_percent(first: Json, other: Json, points: Json, label: str) -> dict[str, float | None]:
    """Return 100 * (other / first - 1) a measure; None where the first's is zero or was not measured."""
    names = ("trainable_parameters", "peak_memory_bytes", "step_s", "training_s", "heldout_loss")
    changes = {name: change(first[name], other[name]) for name in names}
    losses = {f"loss_at_{point}": found["against"][label]["percent"] for point, found in points.items()}
    return {**changes, **losses, "prompt_match": change(match(first), match(other))}


def change(first: float | None, other: float | None) -> float | None:
    """Return 100 * (other / first - 1); None where `first` is zero, or one was not measured."""
    return None if not first or other is None else 100 * (other / first - 1)


def match(column: Json) -> float | None:
    """Return the share of a column's samples that show their prompt; None where that was not scored."""
    value: float | None = column["quality"].get("prompt_match")
    return value


def rows(comparison: Json) -> list[Row]:
    """Return the comparison's table, one measure a row: what decides first, memory, time and loss."""
    columns, start = comparison["columns"], f"{comparison['start']['heldout_loss']:.4f}"
    first, *_ = columns.values()
    changes = comparison["relative_percent"]

    def row(
        title: str, key: str, texts: Iterable[str], start: str = "", tie: Callable[[str], bool] = _never
    ) -> Row:
        return Row(
            title,
            start,
            tuple(texts),
            tuple(
                f"{percent(one[key])} (tie)" if one[key] is not None and tie(label) else percent(one[key])
                for label, one in changes.items()
            ),
        )

    def measured(key: str, text: Any) -> list[str]:
        return [_beside(text(column[key]), column["beside"].get(key), text) for column in columns.values()]

    def losses(point: str) -> list[str]:
        found, write = comparison["points"][point], "{:.4f}".format
        return [_beside(write(found["losses"][label]), found["beside"][label], write) for label in columns]

    def loss_row(title: str, point: str) -> Row:
        against = comparison["points"][point]["against"]
        return row(title, f"loss_at_{point}", losses(point), start, lambda label: losses_tie(against[label]))

    shares = [share(match(column)) for column in columns.values()]
    return [
        row("Peak memory", "peak_memory_bytes", measured("peak_memory_bytes", size)),
        row(
            "Median step time",
            "step_s",
            measured("step_s", duration),
            tie=lambda label: steps_tie(first, columns[label]),
        ),
        loss_row("Loss, equal steps", "steps"),
        loss_row("Loss, equal compute", "compute"),
        loss_row("Loss, equal time", "time"),
        row(
            "Samples that match",
            "prompt_match",
            shares,
            tie=lambda label: matches_differ(first, columns[label]) == 0,
        ),
        row("Trained weights", "trainable_parameters", measured("trainable_parameters", count)),
    ]


def _never(_: str) -> bool:
    return False


def _beside(text: str, reach: float | None, write: Any) -> str:
    """A mean with half its 95% interval over training seeds, where there are several."""
    return text if reach is None else f"{text} ± {write(reach)}"


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


def percent(value: float | None) -> str:
    """Write a relative change in per cent, with its sign."""
    if value is None:
        return NONE
    text = f"{abs(value):.1f}%"
    return text if text == "0.0%" else f"{'+' if value > 0 else MINUS}{text}"


def share(value: float | None) -> str:
    """Write a share of 1 in per cent, without a sign."""
    return NONE if value is None else f"{100 * value:.0f}%"


def begun(label: str) -> str:
    """Write a label as a sentence begins, its first letter large and nothing else changed."""
    return label[:1].upper() + label[1:]


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))

"""The comparison in words: one honest paragraph, made from the numbers and their uncertainty alone."""

from collections.abc import Sequence

from mobius_pipeline.comparison.summary import (
    Json,
    begun,
    change,
    duration,
    listed,
    match,
    percent,
    share,
    size,
)
from mobius_pipeline.comparison.ties import (
    clearly_higher,
    clearly_lower,
    losses_tie,
    matches_differ,
    scored,
    steps_tie,
)

Named = tuple[str, Json]  # a column's label and figures


def verdict(comparison: Json) -> str:
    """Say which to take, what the others cost and reach beside the first, and what no figure can tell."""
    first, *others = comparison["columns"].items()
    costs = [_time] if len(others) == 1 else [_memories, _times]
    sentences = [
        _unfairness(comparison["fairness"]),
        _advice(comparison) if len(others) == 1 else _advice_of_several(comparison),
        *(say(first, others) for say in costs),
        comparison["timing_note"],
        _losses(comparison),
        _no_progress(comparison["heldout_change"]),
        _samples(first, others, comparison["references"]),
        _heads(comparison["columns"]),
        _schedules(comparison),
        _seeds([first, *others]),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _advice(comparison: Json) -> str:
    """Recommend one of two columns for a memory, by its peak and its loss at equal compute."""
    (name, one), (label, other) = comparison["columns"].items()
    found = comparison["points"]["compute"]["against"][label]
    peaks = [size(column["peak_memory_bytes"]) for column in (one, other)]
    more = _less_or_more(one["peak_memory_bytes"], other["peak_memory_bytes"], "peak memory")
    memory = f"{label} needs {more} than {name} ({peaks[1]} against {peaks[0]})"
    loss = f"at equal compute its held-out loss {_compared(found, name)}"
    if found["low"] is None:
        chosen = "none, without an interval"
    elif other["peak_memory_bytes"] <= one["peak_memory_bytes"]:
        chosen = f"{name} where {peaks[0]} are there, else {label}" if clearly_higher(found) else label
    else:
        chosen = f"{label} where {peaks[1]} are there, else {name}" if clearly_lower(found) else name
    return f"Recommended: {chosen}. {begun(memory)}, and {loss}."


def _advice_of_several(comparison: Json) -> str:
    """Name the column of least memory among those whose loss at equal compute is not clearly higher."""
    columns, found = comparison["columns"], comparison["points"]["compute"]["against"]
    first = next(iter(columns))
    equal = [
        first,
        *(label for label in found if found[label]["low"] is not None and not clearly_higher(found[label])),
    ]
    chosen = min(equal, key=lambda label: columns[label]["peak_memory_bytes"])
    why = (
        "" if chosen == first else f", whose held-out loss at equal compute {_compared(found[chosen], first)}"
    )
    return (
        f"Recommended: {chosen}{why}. It needs the least memory "
        f"({size(columns[chosen]['peak_memory_bytes'])}) of those that are not clearly worse than {first}."
    )


def _compared(found: Json, name: str) -> str:
    """How a loss compares with that of the column `name`, as a verb phrase."""
    if found["low"] is None:
        return f"cannot be distinguished from {name}'s ({_interval(found)})"
    if clearly_lower(found):
        return f"is below {name}'s ({_interval(found)})"
    return f"{'is above' if clearly_higher(found) else 'ties with'} {name}'s ({_interval(found)})"


def _unfairness(fairness: Json) -> str:
    differing = [name.removeprefix("same_") for name, same in fairness.items() if not same]
    return f"This comparison is not fair: its columns differ in {listed(differing)}." if differing else ""


def _memories(first: Named, others: Sequence[Named]) -> str:
    name, one = first
    changes = [
        f"{label} {percent(change(one['peak_memory_bytes'], other['peak_memory_bytes']))}"
        for label, other in others
    ]
    return f"Peak memory, beside the {size(one['peak_memory_bytes'])} of {name}: {listed(changes)}."


def _time(first: Named, others: Sequence[Named]) -> str:
    (name, one), ((label, other),) = first, others
    amounts = f"({duration(other['step_s'])} against {duration(one['step_s'])}, medians)"
    if steps_tie(one, other):
        return (
            f"The step times of {label} and {name} {amounts} are a tie: the middle halves of the measured "
            "steps overlap."
        )
    return (
        f"A step of {label} takes {_less_or_more(one['step_s'], other['step_s'], 'time')} {amounts}; "
        f"whole trainings took {duration(other['training_s'])} and {duration(one['training_s'])}."
    )


def _times(first: Named, others: Sequence[Named]) -> str:
    name, one = first
    changes = [
        f"{label} {percent(change(one['step_s'], other['step_s']))}"
        + (" (a tie)" if steps_tie(one, other) else "")
        for label, other in others
    ]
    return f"Median step time, beside the {duration(one['step_s'])} of {name}: {listed(changes)}."


def _losses(comparison: Json) -> str:
    """How the losses differ from the first column's where all have spent the same steps, compute and time."""
    first = next(iter(comparison["columns"]))
    parts = []
    for point, title in _TITLES.items():
        changes = comparison["points"][point]["against"]
        parts.append(f"{title} {listed([_change(label, found) for label, found in changes.items()])}")
    return f"Held-out loss against {first}'s, with 95% intervals: {'; '.join(parts)}."


_TITLES = {"steps": "at equal steps", "compute": "at equal compute", "time": "at equal training time"}


def _change(label: str, found: Json) -> str:
    return f"{label} {_interval(found)}{', a tie' if losses_tie(found) else ''}"


def _interval(found: Json) -> str:
    one, many = ("seed", "seeds") if found["over"] == "seeds" else ("clip", "clips")
    if found["low"] is None:
        pairs = f"of 1 {one}" if found["pairs"] == 1 else "read off the curves"
        return f"{percent(found['percent'])}, {pairs}, without an interval"
    return f"{percent(found['percent'])}, {_ends(found)} over {found['pairs']} {many}"


def _ends(found: Json) -> str:
    return f"{percent(found['low'])} to {percent(found['high'])}"


def _no_progress(changes: Json) -> str:
    stuck = [label for label, found in changes.items() if found["high"] is None or found["high"] >= 0]
    return f"Training did not clearly improve {listed(stuck)} over the untrained base." if stuck else ""


def _schedules(comparison: Json) -> str:
    """Say where equal steps are not equal: a rate that falls over each training's whole length."""
    columns, steps = comparison["columns"], {column["steps"] for column in comparison["columns"].values()}
    falling = [label for label, column in columns.items() if not column["schedule"].startswith("constant")]
    if not falling or len(steps) == 1:
        return ""
    return (
        f"The learning rate of {listed(falling)} falls over the whole training: where one had more steps to "
        "go, losses at equal steps and time were measured at a higher rate."
    )


def _heads(columns: Json) -> str:
    trained = [label for label, column in columns.items() if column["train_head"]]
    return f"The base's last layers were trained, too, in {listed(trained)}." if trained else ""


def _samples(first: Named, others: Sequence[Named], references: Json) -> str:
    shares = [(label, match(column)) for label, column in (first, *others)]
    if any(value is None for _, value in shares):
        return "Whether samples match their prompts was not scored on this data."
    said = listed([f"{label} {share(value)}" for label, value in shares])
    beside = _references(references)
    winners = _winners(first, others)
    taken = listed([f"{column['steps']} steps of {label}" for label, column in (first, *others)])
    shown = "Samples that show their prompt's colour, shape and motion"
    return f"{shown}, after {taken}: {said}{beside}; {winners}."


def _references(references: Json) -> str:
    names = {"real": "real clips", "still": "a still frame", "random": "a random clip"}
    scores = {name: references[name]["prompt_match"] for name in names if name in references}
    known = [f"{names[name]} {share(score)}" for name, score in scores.items() if score is not None]
    return f" ({listed(known)})" if known else ""


def _winners(first: Named, others: Sequence[Named]) -> str:
    """Name those that are better or worse than the first; the rest ties, by `matches_differ`."""
    name = first[0]
    better, ties, worse = (
        [label for label, column in others if matches_differ(first[1], column) == gap] for gap in (1, 0, -1)
    )
    found = [
        *([f"{listed(better)} clearly better than {name}"] if better else []),
        *([f"{name} clearly better than {listed(worse)}"] if worse else []),
        *([f"{listed(ties)} and {name} tie, with {scored(first[1])} samples each"] if ties else []),
    ]
    return listed(found)


def _seeds(columns: Sequence[Named]) -> str:
    if all(len(column["seeds"]) == 1 for _, column in columns):
        return (
            "Each was trained once, on one seed: no interval here counts what another seed would change, and "
            "a small difference may turn on it."
        )
    counted = listed([f"{label} on {len(column['seeds'])}" for label, column in columns])
    return f"Training seeds: {counted}; figures are means over them, \N{PLUS-MINUS SIGN} half a 95% interval."


def _less_or_more(first: float, other: float, what: str) -> str:
    more = 100 * (other / first - 1)
    return f"{abs(more):.1f}% {'less' if more < 0 else 'more'} {what}"

"""The comparison in words: one honest paragraph, made from the numbers and their uncertainty alone."""

from collections.abc import Mapping, Sequence

from mobius_pipeline.comparison.model import Change, Column, Fairness, Findings, Points, References
from mobius_pipeline.comparison.summary import begun, change, duration, listed, percent, share, size
from mobius_pipeline.comparison.ties import (
    clearly_higher,
    clearly_lower,
    losses_tie,
    matches_differ,
    scored,
    steps_tie,
)

Named = tuple[str, Column]  # a column's label and figures


def verdict(found: Findings) -> str:
    """Say which to take, what the others cost and reach beside the first, and what no figure can tell."""
    first, *others = found.columns.items()
    costs = [_time] if len(others) == 1 else [_memories, _times]
    sentences = [
        _unfairness(found.fairness),
        _advice(found) if len(others) == 1 else _advice_of_several(found),
        *(say(first, others) for say in costs),
        found.timing_note,
        _losses(found.first, found.points),
        _no_progress(found.heldout_change),
        _samples(first, others, found.references),
        _heads([first, *others]),
        _schedules([first, *others]),
        _seeds([first, *others]),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _advice(found: Findings) -> str:
    """Recommend one of two columns for a memory, by its peak and its loss at equal compute."""
    (name, one), (label, other) = found.columns.items()
    against = found.points.compute.against[label]
    peaks = [size(column.peak_memory_bytes) for column in (one, other)]
    more = _less_or_more(one.peak_memory_bytes, other.peak_memory_bytes, "peak memory")
    memory = f"{label} needs {more} than {name} ({peaks[1]} against {peaks[0]})"
    loss = f"at equal compute its held-out loss {_compared(against, name)}"
    if against.low is None:
        chosen = "none, without an interval"
    elif other.peak_memory_bytes <= one.peak_memory_bytes:
        chosen = f"{name} where {peaks[0]} are there, else {label}" if clearly_higher(against) else label
    else:
        chosen = f"{label} where {peaks[1]} are there, else {name}" if clearly_lower(against) else name
    return f"Recommended: {chosen}. {begun(memory)}, and {loss}."


def _advice_of_several(found: Findings) -> str:
    """Name the column of least memory among those whose loss at equal compute is not clearly higher."""
    columns, against, first = found.columns, found.points.compute.against, found.first
    equal = [
        first,
        *(label for label, one in against.items() if one.low is not None and not clearly_higher(one)),
    ]
    chosen = min(equal, key=lambda label: columns[label].peak_memory_bytes)
    why = (
        ""
        if chosen == first
        else f", whose held-out loss at equal compute {_compared(against[chosen], first)}"
    )
    return (
        f"Recommended: {chosen}{why}. It needs the least memory "
        f"({size(columns[chosen].peak_memory_bytes)}) of those that are not clearly worse than {first}."
    )


def _compared(found: Change, name: str) -> str:
    """How a loss compares with that of the column `name`, as a verb phrase."""
    if found.low is None:
        return f"cannot be distinguished from {name}'s ({_interval(found)})"
    if clearly_lower(found):
        return f"is below {name}'s ({_interval(found)})"
    return f"{'is above' if clearly_higher(found) else 'ties with'} {name}'s ({_interval(found)})"


def _unfairness(fairness: Fairness) -> str:
    differing = fairness.differing
    return f"This comparison is not fair: its columns differ in {listed(differing)}." if differing else ""


def _memories(first: Named, others: Sequence[Named]) -> str:
    name, one = first
    changes = [
        f"{label} {percent(change(one.peak_memory_bytes, other.peak_memory_bytes))}"
        for label, other in others
    ]
    return f"Peak memory, beside the {size(one.peak_memory_bytes)} of {name}: {listed(changes)}."


def _time(first: Named, others: Sequence[Named]) -> str:
    (name, one), ((label, other),) = first, others
    amounts = f"({duration(other.step_s)} against {duration(one.step_s)}, medians)"
    if steps_tie(one, other):
        return (
            f"The step times of {label} and {name} {amounts} are a tie: the middle halves of the measured "
            "steps overlap."
        )
    return (
        f"A step of {label} takes {_less_or_more(one.step_s, other.step_s, 'time')} {amounts}; "
        f"whole trainings took {duration(other.training_s)} and {duration(one.training_s)}."
    )


def _times(first: Named, others: Sequence[Named]) -> str:
    name, one = first
    changes = [
        f"{label} {percent(change(one.step_s, other.step_s))}" + (" (a tie)" if steps_tie(one, other) else "")
        for label, other in others
    ]
    return f"Median step time, beside the {duration(one.step_s)} of {name}: {listed(changes)}."


def _losses(first: str, points: Points) -> str:
    """How the losses differ from the first column's where all have spent the same steps, compute and time."""
    titles = {
        "at equal steps": points.steps,
        "at equal compute": points.compute,
        "at equal training time": points.time,
    }
    parts = [
        f"{title} {listed([_change(label, found) for label, found in point.against.items()])}"
        for title, point in titles.items()
    ]
    return f"Held-out loss against {first}'s, with 95% intervals: {'; '.join(parts)}."


def _change(label: str, found: Change) -> str:
    return f"{label} {_interval(found)}{', a tie' if losses_tie(found) else ''}"


def _interval(found: Change) -> str:
    one, many = ("seed", "seeds") if found.over == "seeds" else ("clip", "clips")
    if found.low is None:
        pairs = f"of 1 {one}" if found.pairs == 1 else "read off the curves"
        return f"{percent(found.percent)}, {pairs}, without an interval"
    return f"{percent(found.percent)}, {_ends(found)} over {found.pairs} {many}"


def _ends(found: Change) -> str:
    return f"{percent(found.low)} to {percent(found.high)}"


def _no_progress(changes: Mapping[str, Change]) -> str:
    stuck = [label for label, found in changes.items() if found.high is None or found.high >= 0]
    return f"Training did not clearly improve {listed(stuck)} over the untrained base." if stuck else ""


def _schedules(columns: Sequence[Named]) -> str:
    """Say where equal steps are not equal: a rate that falls over each training's whole length."""
    falling = [label for label, column in columns if not column.schedule.startswith("constant")]
    if not falling or len({column.steps for _, column in columns}) == 1:
        return ""
    return (
        f"The learning rate of {listed(falling)} falls over the whole training: where one had more steps to "
        "go, losses at equal steps and time were measured at a higher rate."
    )


def _heads(columns: Sequence[Named]) -> str:
    trained = [label for label, column in columns if column.train_head]
    return f"The base's last layers were trained, too, in {listed(trained)}." if trained else ""


def _samples(first: Named, others: Sequence[Named], references: References) -> str:
    shares = [(label, column.quality.prompt_match) for label, column in (first, *others)]
    if any(value is None for _, value in shares):
        return "Whether samples match their prompts was not scored on this data."
    said = listed([f"{label} {share(value)}" for label, value in shares])
    beside = _references(references)
    winners = _winners(first, others)
    taken = listed([f"{column.steps} steps of {label}" for label, column in (first, *others)])
    shown = "Samples that show their prompt's colour, shape and motion"
    return f"{shown}, after {taken}: {said}{beside}; {winners}."


def _references(references: References) -> str:
    sets = {
        "real clips": references.real,
        "a still frame": references.still,
        "a random clip": references.random,
    }
    known = [
        f"{name} {share(quality.prompt_match)}"
        for name, quality in sets.items()
        if quality is not None and quality.prompt_match is not None
    ]
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
    if all(len(column.seeds) == 1 for _, column in columns):
        return (
            "Each was trained once, on one seed: no interval here counts what another seed would change, and "
            "a small difference may turn on it."
        )
    counted = listed([f"{label} on {len(column.seeds)}" for label, column in columns])
    return f"Training seeds: {counted}; figures are means over them, \N{PLUS-MINUS SIGN} half a 95% interval."


def _less_or_more(first: float, other: float, what: str) -> str:
    more = 100 * (other / first - 1)
    return f"{abs(more):.1f}% {'less' if more < 0 else 'more'} {what}"

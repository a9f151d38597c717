"""Write the verdict: a paragraph that follows from the comparison's figures and their uncertainty."""

from collections.abc import Mapping, Sequence

from mobius_pipeline.comparison.model import Change, Column, Fairness, Findings, Points, References
from mobius_pipeline.comparison.summary import capitalised, change, duration, listed, percent, share
from mobius_pipeline.comparison.ties import (
    clearly_higher,
    clearly_lower,
    losses_tie,
    matches_differ,
    scored,
    steps_tie,
)
from mobius_pipeline.runtime.units import size

Named = tuple[str, Column]  # a column's label and figures


def verdict(found: Findings) -> str:
    """Return the verdict: the recommended mode, costs and losses relative to the first column, caveats."""
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
    """Recommend one of two columns by peak memory and by loss at equal compute."""
    (name, one), (label, other) = found.columns.items()
    against = found.points.compute.against[label]
    peaks = [size(column.peak_memory_bytes) for column in (one, other)]
    more = _less_or_more(one.peak_memory_bytes, other.peak_memory_bytes, "peak memory")
    memory = f"{label} needs {more} than {name} ({peaks[1]} against {peaks[0]})"
    loss = f"at equal compute its held-out loss {_compared(against, name)}"
    if against.low is None:
        chosen = "neither, because the loss difference has no interval"
    elif other.peak_memory_bytes <= one.peak_memory_bytes:
        chosen = (
            f"{name} if {peaks[0]} are available, otherwise {label}" if clearly_higher(against) else label
        )
    else:
        chosen = f"{label} if {peaks[1]} are available, otherwise {name}" if clearly_lower(against) else name
    return f"Recommended: {chosen}. {capitalised(memory)}, and {loss}."


def _advice_of_several(found: Findings) -> str:
    """Recommend the column with the least memory whose loss at equal compute is not clearly higher."""
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
        f"({size(columns[chosen].peak_memory_bytes)}) of the columns that are not clearly worse than {first}."
    )


def _compared(found: Change, name: str) -> str:
    """Return how a loss compares with that of the column `name`, as a verb phrase."""
    if found.low is None:
        return f"cannot be distinguished from {name}'s: {_interval(found)}"
    if clearly_lower(found):
        return f"is lower than {name}'s: {_interval(found)}"
    return f"{'is higher than' if clearly_higher(found) else 'ties with'} {name}'s: {_interval(found)}"


def _unfairness(fairness: Fairness) -> str:
    differing = fairness.differing
    return f"This comparison is not fair: its columns differ in {listed(differing)}." if differing else ""


def _memories(first: Named, others: Sequence[Named]) -> str:
    name, one = first
    changes = [
        f"{label} {percent(change(one.peak_memory_bytes, other.peak_memory_bytes))}"
        for label, other in others
    ]
    return f"Peak memory relative to {name} ({size(one.peak_memory_bytes)}): {listed(changes)}."


def _time(first: Named, others: Sequence[Named]) -> str:
    (name, one), ((label, other),) = first, others
    amounts = f"(medians: {duration(other.step_s)} and {duration(one.step_s)})"
    if steps_tie(one, other):
        return (
            f"The step times of {label} and {name} {amounts} are a tie: their interquartile ranges overlap."
        )
    return (
        f"A step of {label} takes {_less_or_more(one.step_s, other.step_s, 'time')} than one of {name} "
        f"{amounts}; the whole trainings took {duration(other.training_s)} and {duration(one.training_s)}."
    )


def _times(first: Named, others: Sequence[Named]) -> str:
    name, one = first
    changes = [
        f"{label} {percent(change(one.step_s, other.step_s))}" + (" (a tie)" if steps_tie(one, other) else "")
        for label, other in others
    ]
    return f"Median step time relative to {name} ({duration(one.step_s)}): {listed(changes)}."


def _losses(first: str, points: Points) -> str:
    """Return how the losses differ from the first column's at equal steps, compute and time."""
    titles = {
        "at equal steps": points.steps,
        "at equal compute": points.compute,
        "at equal training time": points.time,
    }
    parts = [
        f"{title} {listed([_change(label, found) for label, found in point.against.items()])}"
        for title, point in titles.items()
    ]
    return f"Held-out loss relative to {first}'s, with 95% intervals: {'; '.join(parts)}."


def _change(label: str, found: Change) -> str:
    return f"{label} {_interval(found)}{', a tie' if losses_tie(found) else ''}"


def _interval(found: Change) -> str:
    one, many = ("seed", "seeds") if found.over == "seeds" else ("clip", "clips")
    if found.low is None:
        pairs = f"1 {one}" if found.pairs == 1 else "read off the curves"
        return f"{percent(found.percent)} ({pairs}, no interval)"
    return f"{percent(found.percent)} ({_ends(found)} over {found.pairs} {many})"


def _ends(found: Change) -> str:
    return f"{percent(found.low)} to {percent(found.high)}"


def _no_progress(changes: Mapping[str, Change]) -> str:
    stuck = [label for label, found in changes.items() if found.high is None or found.high >= 0]
    return f"Training did not clearly improve {listed(stuck)} over the untrained base." if stuck else ""


def _schedules(columns: Sequence[Named]) -> str:
    """Warn if learning rates differ at equal steps: they decay over trainings of different lengths."""
    falling = [label for label, column in columns if not column.schedule.startswith("constant")]
    if not falling or len({column.steps for _, column in columns}) == 1:
        return ""
    return (
        f"The learning rate of {listed(falling)} decays over the whole training. Where a training had more "
        "steps left, its losses at equal steps and time were measured at a higher learning rate."
    )


def _heads(columns: Sequence[Named]) -> str:
    trained = [label for label, column in columns if column.train_head]
    return f"In {listed(trained)}, the base's last layers were trained, too." if trained else ""


def _samples(first: Named, others: Sequence[Named], references: References) -> str:
    shares = [(label, column.quality.prompt_match) for label, column in (first, *others)]
    if any(value is None for _, value in shares):
        return "How well samples match their prompts was not scored on this data."
    values = listed([f"{label} {share(value)}" for label, value in shares])
    known = _references(references)
    winners = _winners(first, others)
    taken = listed([f"{column.steps} steps of {label}" for label, column in (first, *others)])
    shown = "Share of samples that show their prompt's colour, shape and motion"
    return f"{shown}, after {taken}: {values}{known}; {winners}."


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
    """Return which columns are better than the first, worse, or tie with it, by `matches_differ`."""
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
            "Each was trained with one seed. The intervals do not include variation between seeds, so a "
            "small difference may be due to the seed."
        )
    counted = listed([f"{label} {len(column.seeds)}" for label, column in columns])
    return (
        f"Number of training seeds: {counted}. Figures are means over seeds, "
        "\N{PLUS-MINUS SIGN} half the 95% interval."
    )


def _less_or_more(first: float, other: float, what: str) -> str:
    more = 100 * (other / first - 1)
    return f"{abs(more):.1f}% {'less' if more < 0 else 'more'} {what}"

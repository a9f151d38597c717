"""The comparison in words: one honest paragraph, made from the numbers and their uncertainty alone."""

import math
from collections.abc import Sequence

from mobius_pipeline.evaluation.summary import (
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

Named = tuple[str, Json]  # a column's label and figures


def verdict(comparison: Json) -> str:
    """Say what the others cost and reach beside the first column, and what the figures cannot tell."""
    first, *others = comparison["columns"].items()
    costs = [_memory, _time] if len(others) == 1 else [_memories, _times]
    sentences = [
        _unfairness(comparison["fairness"]),
        *(say(first, others) for say in costs),
        "" if comparison["paired_step_times"] else "Step times were measured in each training on its own.",
        _loss(comparison) if len(others) == 1 else _losses(comparison),
        _samples(first, others, comparison["references"]),
        _seeds([first, *others]),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _unfairness(fairness: Json) -> str:
    differing = [name.removeprefix("same_") for name, same in fairness.items() if not same]
    return f"This comparison is not fair: its columns differ in {listed(differing)}." if differing else ""


def _memory(first: Named, others: Sequence[Named]) -> str:
    (name, one), ((label, other),) = first, others
    amounts = f"({size(other['peak_memory_bytes'])} against {size(one['peak_memory_bytes'])})"
    if percent(change(one["peak_memory_bytes"], other["peak_memory_bytes"])) == "0.0%":
        return f"{begun(label)} needs the same peak memory as {name} {amounts}."
    more = _less_or_more(one["peak_memory_bytes"], other["peak_memory_bytes"], "peak memory")
    return f"{begun(label)} needs {more} than {name} {amounts}."


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
    if _overlap(one["step_s_iqr"], other["step_s_iqr"]):
        return (
            f"The step times of {label} and {name} {amounts} are a tie: the middle halves of the measured "
            "steps overlap."
        )
    return (
        f"A step of {label} takes {_less_or_more(one['step_s'], other['step_s'], 'time')} {amounts}; "
        f"the whole training took {duration(other['training_s'])} against {duration(one['training_s'])}."
    )


def _times(first: Named, others: Sequence[Named]) -> str:
    name, one = first
    changes = [
        f"{label} {percent(change(one['step_s'], other['step_s']))}"
        + (" (a tie)" if _overlap(one["step_s_iqr"], other["step_s_iqr"]) else "")
        for label, other in others
    ]
    return f"Median step time, beside the {duration(one['step_s'])} of {name}: {listed(changes)}."


def _loss(comparison: Json) -> str:
    columns, changes = comparison["columns"], comparison["heldout_change"]
    first, against = next(iter(columns)), comparison["heldout_against"]
    amounts = [
        f"{label} {column['heldout_loss']:.4f} ({_interval(changes[label])})"
        for label, column in columns.items()
    ]
    found = listed([_better(first, label, one) for label, one in against.items()])
    return (
        f"Held-out loss, from {comparison['t2i']['heldout_loss']:.4f} at the T2I start, with 95% intervals: "
        f"{listed(amounts)}; {found}.{_no_progress(changes)}"
    )


def _interval(found: Json) -> str:
    one, many = ("seed", "seeds") if found["over"] == "seeds" else ("clip", "clips")
    if found["low"] is None:
        pairs = f"{found['pairs']} {one if found['pairs'] == 1 else many}"
        return f"{percent(found['percent'])}, of {pairs}, no interval"
    return f"{percent(found['percent'])}, {_ends(found)} over {found['pairs']} {many}"


def _better(first: str, label: str, found: Json) -> str:
    if _may_be_nothing(found):
        return f"{label} against {first} ({_interval(found)}) is a tie"
    better = first if found["percent"] > 0 else label
    return f"{better} is better, {label} against {first} being {_interval(found)}"


def _losses(comparison: Json) -> str:
    (name, one), *_ = comparison["columns"].items()
    against = [
        f"{label} {percent(found['percent'])} ({'a tie' if _may_be_nothing(found) else _ends(found)})"
        for label, found in comparison["heldout_against"].items()
    ]
    return (
        f"Held-out loss, beside the {one['heldout_loss']:.4f} of {name}, with 95% intervals: "
        f"{listed(against)}.{_no_progress(comparison['heldout_change'])}"
    )


def _may_be_nothing(found: Json) -> bool:
    return found["low"] is None or found["low"] <= 0 <= found["high"]


def _ends(found: Json) -> str:
    return f"{percent(found['low'])} to {percent(found['high'])}"


def _no_progress(changes: Json) -> str:
    stuck = [label for label, found in changes.items() if found["high"] is None or found["high"] >= 0]
    return f" Training did not clearly improve {listed(stuck)} over the T2I start." if stuck else ""


def _samples(first: Named, others: Sequence[Named], references: Json) -> str:
    shares = [(label, match(column)) for label, column in (first, *others)]
    if any(value is None for _, value in shares):
        return "Whether samples match their prompts was not scored on this data."
    said = listed([f"{label} {share(value)}" for label, value in shares])
    beside = _references(references)
    winners = _winners(first, others)
    return f"Samples that show their prompt's colour, shape and motion: {said}{beside}; {winners}."


def _references(references: Json) -> str:
    names = {"real": "real clips", "still": "a still frame", "random": "a random clip"}
    scores = {name: references[name]["prompt_match"] for name in names if name in references}
    known = [f"{names[name]} {share(score)}" for name, score in scores.items() if score is not None]
    return f" ({listed(known)})" if known else ""


def _winners(first: Named, others: Sequence[Named]) -> str:
    """Name those that are better or worse than the first; the rest ties, by `_gap`."""
    name = first[0]
    better, ties, worse = (
        [label for label, column in others if _gap(first[1], column) == gap] for gap in (1, 0, -1)
    )
    found = [
        *([f"{listed(better)} clearly better than {name}"] if better else []),
        *([f"{name} clearly better than {listed(worse)}"] if worse else []),
        *([f"{listed(ties)} and {name} tie, with {_scored(first[1])} samples each"] if ties else []),
    ]
    return listed(found)


def _gap(first: Json, other: Json) -> int:
    """1 or -1 where `other` is better or worse by more than two standard errors of such shares; else 0."""
    shares = [column["quality"]["prompt_match"] for column in (first, other)]
    number = min(_scored(first), _scored(other))
    pooled = sum(shares) / 2
    error = math.sqrt(2 * pooled * (1 - pooled) / number) if number else math.inf
    gap = shares[1] - shares[0]
    return 0 if abs(gap) <= 2 * error else (1 if gap > 0 else -1)


def _scored(column: Json) -> int:
    """How many samples a column's shares are of: every run was sampled."""
    return len(column["samples"]) * len(column["seeds"])


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


def _overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    return first[0] <= second[1] and second[0] <= first[1]

"""Rules that choose the candidate and the champion, as pure functions."""

from dataclasses import dataclass

from mobius_pipeline.comparison.model import Column, Comparison
from mobius_pipeline.registry.config import CandidateRule, ChampionRule


@dataclass(frozen=True)
class Standing:
    """The properties of a registered version that the rules compare."""

    version: str
    heldout_loss: float
    data: str  # digest of clips, captions, splits and encoder


def candidate(comparison: Comparison, rule: CandidateRule) -> str:
    """Return the label of the column that becomes the candidate."""
    columns = comparison.columns
    most = min(column.heldout_loss for column in columns.values()) * (1 + rule.within_percent / 100)
    qualified = [label for label, column in columns.items() if column.heldout_loss <= most]
    return min(qualified, key=lambda label: _cost(columns[label], rule))


def _cost(column: Column, rule: CandidateRule) -> float:
    return float(getattr(column, rule.least))


def why_chosen(comparison: Comparison, label: str, rule: CandidateRule) -> str:
    """Return the reason for the choice of the candidate, as text."""
    loss = comparison.columns[label].heldout_loss
    within = f"within {rule.within_percent:g}% of " if rule.within_percent else ""
    return f"held-out loss {loss:.4f} is {within}the lowest; among those, the least {rule.least}"


def moves(new: Standing, champion: Standing | None, rule: ChampionRule) -> tuple[bool, str]:
    """Return whether the alias `champion` moves to `new`, and the reason.

    Losses on different held-out clips cannot be compared, so the alias stays.
    """
    if champion is None:
        return True, "there was no champion"
    if champion.version == new.version:
        return False, "it is the champion"
    if champion.data != new.data:
        return False, f"version {champion.version}, the champion, was evaluated on other data"
    limit = champion.heldout_loss * (1 + rule.within_percent / 100)
    against = f"{new.heldout_loss:.4f} against {champion.heldout_loss:.4f} of version {champion.version}"
    allowed = f"up to {rule.within_percent:g}% more is allowed"
    return new.heldout_loss <= limit, f"its held-out loss is {against}; {allowed}"

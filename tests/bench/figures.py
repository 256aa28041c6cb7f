"""Several runs of one thing: the median stands for them, the least and the most show how far to trust it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median


def middle(values: Sequence[float], scale: float = 1.0) -> str:
    """The median with its bounds; `scale` 1000 turns seconds into milliseconds."""
    least, most = min(values) * scale, max(values) * scale
    return f"{rounded(median(values) * scale)} ({rounded(least)}-{rounded(most)})"


def ratio(more: Sequence[float], less: Sequence[float]) -> str:
    """How many times the median of `less` the median of `more` is."""
    below = median(less)
    return f"{rounded(median(more) / below)}x" if below > 0 else "-"


def rounded(value: float) -> str:
    """Three figures, for more would be noise."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]

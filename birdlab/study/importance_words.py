"""When the importances of a search can be told, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping

from birdlab.spec.searches import OptunaSpec

MIN_TRIALS = 12
TRIALS_PER_ENTRY = 6
"""Below these an importance often names the wrong entry; tests/test_search.py simulates it."""


def n_needed(spec: OptunaSpec) -> int:
    """How many finished trials at different points an importance takes."""
    n_entries = sum(not entry.when for entry in spec.space.values())
    return max(MIN_TRIALS, TRIALS_PER_ENTRY * n_entries)


def importance_sentence(spec: OptunaSpec, shares: Mapping[str, float], n_finished: int) -> str:
    """The importances in words, or why there are none."""
    if shares:
        listed = ", ".join(f"{key} {100 * share:.0f} %" for key, share in shares.items())
        left_out = [key for key in spec.space if key not in shares]
        note = f"; not asked everywhere, or never moved: {', '.join(left_out)}" if left_out else ""
        return f"importance of what was searched, from {n_finished} points: {listed}{note}"
    if n_finished < n_needed(spec):
        return (
            f"importance of what was searched: unknown, {n_finished} of the {n_needed(spec)} "
            "finished points that it takes"
        )
    return "importance of what was searched: nothing to compare"

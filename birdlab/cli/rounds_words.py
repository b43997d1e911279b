"""Rounds of pseudo-labels in words: what they are before a run, what came of them after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birdlab.rounds import RoundsResult
    from birdlab.spec.experiment import ExperimentSpec


def describe_rounds(spec: ExperimentSpec) -> list[str]:
    """What a run with `rounds` does, for `--dry-run`; nothing for one without."""
    from birdlab.rounds import cut_rounds
    from birdlab.words import count_words

    if spec.rounds is None:
        return []
    rule, cuts = spec.rounds, cut_rounds(spec)
    listed = ", ".join(f"{cut.number} ({cut.stage})" for cut in cuts)
    least = f" of more than {rule.min_gain:g}" if rule.min_gain else ""
    return [
        f"rounds    {listed}, each a run of its own, until {count_words(rule.patience, 'round')} "
        f"without a gain{least} in {rule.by}; cells below are at most these"
    ]


def summarise_rounds(found: RoundsResult) -> list[str]:
    """A table of the rounds, and a sentence that says which is taken and why."""
    from birdlab.study.pseudo_rounds import compare_rounds

    by, table = found.rule.by, compare_rounds(found)
    width = max(5, *(len(str(stage)) for stage in table["stage"]))
    lines = [
        f"rounds by {by}; delta and interval to the round before",
        f"  round  {'stage':<{width}}  {'padded cmAP':>11}  {by:>{len(by)}}  {'delta':>8}  "
        f"{'interval':<19}  verdict",
    ]
    for row in table.to_dict("records"):
        delta = "" if row["delta"] != row["delta"] else f"{row['delta']:+.4f}"
        interval = "" if row["low"] != row["low"] else f"{row['low']:+.4f} .. {row['high']:+.4f}"
        said = ", ".join(text for text in (row["verdict"], row["more_seeds"]) if text)
        lines.append(
            f"  {row['round']:<5}  {row['stage']:<{width}}  {row['padded_cmap']:>11.4f}  "
            f"{row['score']:>{max(6, len(by))}.4f}  {delta:>8}  {interval:<19}  {said}".rstrip()
        )
    lines.append(f"  {found.sentence}")
    if len(found.cuts) > 1:
        lines.append(f"  {by} chose the round, so that of the run taken flatters a little.")
    return lines

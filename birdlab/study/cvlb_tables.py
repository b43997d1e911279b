"""The figures of a CV-leaderboard study as tables of text: rounded, intervals in one column."""

from __future__ import annotations

import math

import pandas as pd

from birdlab.study.cvlb import CvLbStudy
from birdlab.study.cvlb_best import BestRun
from birdlab.study.cvlb_estimators import EstimatorComparison
from birdlab.study.cvlb_shake import Shake

MOST_INFLUENTIAL = 10


def statistics_words(study: CvLbStudy) -> pd.DataFrame:
    """Spearman, Kendall tau-b and Pearson, each with its three intervals."""
    rows = []
    for name in ("spearman", "kendall", "pearson"):
        c = getattr(study, name)
        rows.append(
            {
                "statistic": name.capitalize() + (" tau-b" if name == "kendall" else ""),
                "value": _signed(c.value) or "undefined",
                "95 % interval": _between(c.low, c.high),
                "runs resampled": _between(c.boot_low, c.boot_high),
                "lineages resampled": _between(c.cluster_low, c.cluster_high),
                "method": c.method,
            }
        )
    return pd.DataFrame(rows)


def bands_words(study: CvLbStudy) -> pd.DataFrame:
    """Spearman in the top by CV and by leaderboard, beside what the cut alone would leave."""
    names = {"cv": "CV", "lb": "leaderboard"}
    bands = study.bands
    return pd.DataFrame(
        {
            "runs": [
                f"{b.part} by {names[b.cut]}" + (f" of {b.split}" if b.split else "")
                for b in bands.itertuples()
            ],
            "n": bands["n"],
            "from": bands["at_least"].map("{:.4f}".format),
            "Spearman": bands["spearman"].map(_signed),
            "95 % interval": _intervals(bands, "low", "high"),
            "lineages resampled": _intervals(bands, "boot_low", "boot_high"),
            "the cut alone leaves": bands["alone"].map(_signed),
            "95 % of such cuts": _intervals(bands, "alone_low", "alone_high"),
        }
    )


def groups_words(study: CvLbStudy) -> pd.DataFrame:
    """Spearman in each split, checkpoint rule and family, then pooled within them."""
    groups, partial = study.groups, study.partial
    columns = ["by", "group", "n", "Spearman", "95 % interval", "lineages resampled", "note"]
    parts = [pd.DataFrame(columns=columns)]
    if len(groups):
        parts.append(
            pd.DataFrame(
                {
                    "by": groups["by"],
                    "group": groups["group"],
                    "n": groups["n"],
                    "Spearman": groups["spearman"].map(_signed),
                    "95 % interval": _intervals(groups, "low", "high"),
                    "lineages resampled": _intervals(groups, "boot_low", "boot_high"),
                    "note": ["too few to say anything" if few else "" for few in groups["few"]],
                }
            )
        )
    if len(partial):
        parts.append(
            pd.DataFrame(
                {
                    "by": "within " + partial["within"],
                    "group": partial["n_groups"].map("{} groups pooled".format),
                    "n": partial["n"],
                    "Spearman": partial["spearman"].map(_signed),
                    "95 % interval": _intervals(partial, "low", "high"),
                    "lineages resampled": _intervals(partial, "boot_low", "boot_high"),
                    "note": "",
                }
            )
        )
    return pd.concat(parts, ignore_index=True)[columns]


def influence_words(study: CvLbStudy) -> pd.DataFrame:
    """The ten runs without which Spearman changes most."""
    table = study.influence.head(MOST_INFLUENTIAL)
    return pd.DataFrame(
        {
            "name": table["name"],
            "CV": table["cv"],
            "leaderboard": table["lb"],
            "Spearman without it": table["without"].map(_signed),
            "it adds": table["influence"].map(lambda v: f"{v:+.3f}" if math.isfinite(v) else ""),
        }
    )


def shares_words(study: CvLbStudy) -> pd.DataFrame:
    """The share of pairs in the right order from some CV gaps on.

    Scopes without pairs are left out, and so are splits where there is only one.
    """
    table = study.shares[study.shares["n_pairs"] > 0]
    if table["scope"].nunique() == 3:
        table = table[table["scope"] == "all pairs"]
    return pd.DataFrame(
        {
            "pairs": table["scope"],
            "CV gap from": table["gap"].map("{:g}".format),
            "n": table["n_pairs"],
            "right order": table["share"].map("{:.0%}".format),
            "95 % interval": [
                f"{low:.0%} to {high:.0%}" if math.isfinite(low) else ""
                for low, high in zip(table["low"], table["high"], strict=True)
            ],
        }
    )


def noise_words(study: CvLbStudy) -> pd.DataFrame:
    """How much folds scatter, and how much less the differences of two runs on the same folds."""
    table = study.fold_noise
    return pd.DataFrame(
        {
            "split": [name or "all" for name in table["split"]],
            "runs": table["n"],
            "folds": table["n_folds"],
            "SD over folds": table["fold_sd"].map("{:.4f}".format),
            "SD of paired differences": [
                f"{sd:.4f}" if math.isfinite(sd) else "" for sd in table["paired_sd"]
            ],
            "half of the pairs": [
                f"{low:.4f} to {high:.4f}" if math.isfinite(low) else ""
                for low, high in zip(table["paired_low"], table["paired_high"], strict=True)
            ],
        }
    )


def best_words(best: BestRun) -> pd.DataFrame:
    """The runs that are CV-best in some resamples of folds, and where the leaderboard has them."""
    table = best.candidates
    if table.empty:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "name": table["name"],
            "CV-best in": table["share"].map("{:.0%}".format),
            "CV": table["cv"],
            "leaderboard": table["lb"],
            "leaderboard rank": table["lb_rank"],
        }
    )


def regrets_words(shake: Shake) -> pd.DataFrame:
    """What each way of choosing got on the private leaderboard."""
    table = shake.regrets
    return pd.DataFrame(
        {
            "choice": table["choice"],
            "name": table["name"],
            "private": table["private"],
            "private rank": table["private_rank"],
            "behind the best": table["regret"].map("{:.4f}".format),
            "lost more than others": table["luck"].map("{:+.4f}".format),
        }
    )


def moves_words(shake: Shake) -> pd.DataFrame:
    """Every run with both scores, the furthest moved first."""
    return shake.moves.drop(columns="run").rename(
        columns={"public_rank": "public rank", "private_rank": "private rank"}
    )


def estimators_words(comparison: EstimatorComparison) -> pd.DataFrame:
    """Each estimator with its correlations, and how far it stays behind the first."""
    table = comparison.table
    if "low" not in table:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "estimator": table["estimator"],
            "runs": table["n_runs"],
            "Spearman": table["spearman"].map(_signed),
            "95 % interval": _intervals(table, "low", "high"),
            "lineages resampled": _intervals(table, "boot_low", "boot_high"),
            "Kendall tau-b": table["kendall"].map(_signed),
            "Pearson": table["pearson"].map(_signed),
            "behind the first": table["behind"].map("{:.2f}".format),
            "95 % of it": _intervals(table, "behind_low", "behind_high"),
            "first in": table["first"].map("{:.0%}".format),
        }
    )


def _signed(value: float) -> str:
    return f"{value:+.2f}" if math.isfinite(value) else ""


def _between(low: float, high: float) -> str:
    return f"{low:+.2f} to {high:+.2f}" if math.isfinite(low) and math.isfinite(high) else ""


def _intervals(table: pd.DataFrame, low: str, high: str) -> list[str]:
    return [_between(*ends) for ends in zip(table[low], table[high], strict=True)]

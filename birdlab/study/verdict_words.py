"""The verdicts on a table of arms in words."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from birdlab.study.contrasts import EXACT, MIN_FOLDS, Contrast
from birdlab.study.judging import Method
from birdlab.study.noise import NoiseFloor


def noise_share(c: Contrast) -> str:
    """How much of the squared difference noise alone would make: se² of it is expected."""
    if c.n_folds < MIN_FOLDS or np.isnan(c.se):
        return "not known"
    if abs(c.delta) < EXACT:
        return "no difference"
    share = (c.se / c.delta) ** 2
    if share >= 1:
        return "all of it may be noise"
    return f"about {100 * share:.0f} % is noise" if share >= 0.01 else "under 1 % is noise"


def arm_sentences(
    table: pd.DataFrame, contrasts: Mapping[str, Contrast], base: str, smallest_effect: float
) -> list[str]:
    """One sentence for each arm of a Ranking.table but the base."""
    rows = [row for row in table.to_dict("records") if row["verdict"] != "base"]
    return [_arm_sentence(row, contrasts[str(row["arm"])], base, smallest_effect) for row in rows]


def _arm_sentence(
    row: Mapping[Hashable, Any], c: Contrast, base: str, smallest_effect: float
) -> str:
    if c.n_folds == 0:
        return f"{c.arm} shares no cell with {base}: nothing to compare."
    if abs(c.delta) < EXACT and c.own_sd == 0:
        return (
            f"{c.arm}: equal to {base} in every fold, to the last digit. What it changes cannot "
            "change this score, as a step that keeps the order of rows within each class."
        )
    text = f"{c.arm}: {c.delta:+.4f} against {base}"
    if row["verdict"] == "no verdict":
        folds = "1 common fold" if c.n_folds == 1 else f"{c.n_folds} common folds"
        return f"{text} on {folds}: no verdict under {MIN_FOLDS} folds."
    text += f" ({row['low']:+.4f} to {row['high']:+.4f}), p {p_text(row['p'])}"
    if not np.isnan(row["noise_multiples"]):
        text += f", {abs(row['noise_multiples']):.1f} times the noise floor"
    verdict = row["verdict"]
    if verdict in ("better", "worse") and max(abs(row["low90"]), abs(row["high90"])) <= (
        smallest_effect
    ):
        verdict += f" by less than {smallest_effect:g}"
    text += f": {verdict}, {row['noise_share']}."
    if row["more_seeds"]:
        text += f" To decide it: {row['more_seeds']}, if the difference is as seen."
    return text


def method_sentences(
    contrasts: Mapping[str, Contrast],
    base: str,
    method: Method,
    detectable: float,
    noise: NoiseFloor | None,
) -> list[str]:
    """What holds for the table as a whole, what was left out and what was tested apart."""
    sentences: list[str] = []
    if not np.isnan(detectable):
        sentences.append(
            f"A true difference of {detectable:.4f} would be found in 80 % of such studies; "
            "smaller ones less often."
        )
    if noise is not None:
        sentences.append(
            f"The noise floor is the SD of a difference of two equal recipes with the same folds "
            f"and seeds, from {noise.n_folds} folds x {noise.n_seeds} seeds of birdlab noise."
        )
        if noise.seed.low > 0:
            sentences.append(
                "By the noise floor a seed moves all folds together, which no test over folds "
                "sees: trust a verdict with several seeds, or the interval for new data."
            )
    if method == "tukey":
        sentences.append(
            f"{base} is the base because its mean is the highest; all pairs are allowed for."
        )
    for c in contrasts.values():
        if c.left_out and c.n_folds:
            cells = "1 cell is" if c.left_out == 1 else f"{c.left_out} cells are"
            sentences.append(f"{c.arm}: {cells} left out that only it or only {base} has.")
    return sentences + _scatter_sentences(contrasts, base)


def _scatter_sentences(contrasts: Mapping[str, Contrast], base: str) -> list[str]:
    """Which arms are tested on a variance of their own; the base is odd where all of them are."""
    odd = [c.arm for c in contrasts.values() if c.own_variance]
    if len(odd) > 1 and len(odd) == len(contrasts):
        own = f"each is tested on the variance of it and {base} alone"
        return [f"{base} scatters unlike the other arms: {own}."]
    own = f"and is tested on the variance of it and {base} alone"
    return [f"{arm} scatters unlike the other arms {own}." for arm in odd]


def p_text(p: float) -> str:
    """A p value as shown: three digits, or that it is below them."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"

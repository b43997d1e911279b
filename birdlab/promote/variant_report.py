"""What is known of a variant once its fold models were scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from birdlab.infer.variants import Variant


@dataclass(frozen=True)
class RunScore:
    """The out-of-fold score of the fold models of a run, as they were stored and in a variant.

    largest: the largest difference of a probability over `n_windows` windows of `n_folds` folds.
    """

    run: str
    score_fp32: float
    score_variant: float
    largest: float
    n_windows: int
    n_folds: int

    @property
    def difference(self) -> float:
        """Variant less fp32."""
        return self.score_variant - self.score_fp32


@dataclass(frozen=True)
class VariantReport:
    """What a variant does to the score of the fold models of each run, and what it costs.

    threshold: how far a score may move, either way, for the variant to pass; ms_per_window: of
    the whole file on one thread, in fp32 and as the variant; left_in_fp32: backbones, or
    their blocks, that INT8 would move too far; fp32_blocks: the same by the spec ids of runs.
    """

    variant: Variant
    scores: tuple[RunScore, ...]
    threshold: float
    fp32_ms_per_window: float
    ms_per_window: float
    left_in_fp32: tuple[str, ...] = ()
    fp32_blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def difference(self) -> float:
        """The score difference of the run whose score moved most."""
        return max((score.difference for score in self.scores), key=abs)

    @property
    def largest(self) -> float:
        """The largest difference of a probability."""
        return max(score.largest for score in self.scores)

    @property
    def passed(self) -> bool:
        """Whether no score moved by more than the threshold."""
        return all(abs(score.difference) <= self.threshold for score in self.scores)

    @property
    def judged(self) -> Variant:
        """The variant with what was found of it."""
        return replace(
            self.variant, state="passed" if self.passed else "failed", evidence=str(self)
        )

    def table(self) -> pd.DataFrame:
        """One row per run."""
        return pd.DataFrame([{**vars(s), "difference": s.difference} for s in self.scores])

    def __str__(self) -> str:
        most = max(self.scores, key=lambda score: abs(score.difference))
        return (
            f"{self.variant.name}: the out-of-fold score of {most.run} is "
            f"{most.score_variant:.5f} against {most.score_fp32:.5f} in fp32, a difference of "
            f"{most.difference:+.5f} ({'within' if self.passed else 'beyond'} "
            f"{self.threshold:g}), probabilities differ by at most {self.largest:.1e} in "
            f"{sum(s.n_windows for s in self.scores)} windows; {self.ms_per_window:.1f} ms a "
            f"window on one thread against {self.fp32_ms_per_window:.1f}"
            + (f"; left in fp32: {', '.join(self.left_in_fp32)}" if self.left_in_fp32 else "")
        )

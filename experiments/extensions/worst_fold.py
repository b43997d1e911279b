"""An estimator of your own: the fold with the lowest score, for those who fear the worst.

    evaluate: {estimators: [worst_fold, {padded_cmap: {pad: 1}}]}

gives every run a score `cv/worst_fold`. It is computed from stored outputs: nothing is trained.
"""

from __future__ import annotations

from typing import Literal

from birdlab.evaluate.estimators import Estimate, fold_means
from birdlab.evaluate.evidence import Evidence
from birdlab.spec.estimators import EstimatorSpec, Pad
from birdlab.spec.kinds import implements, register


@register("estimator")
class WorstFold(EstimatorSpec):
    """The lowest padded cmAP of a fold, means over seeds."""

    kind: Literal["worst_fold"] = "worst_fold"
    pad: Pad = 5


@implements(WorstFold)
def estimate_worst_fold(spec: WorstFold, evidence: Evidence) -> Estimate:
    """The score of the worst fold; it is no mean of cells, so it has no scores of cells."""
    cells = {cell: ranks.padded_cmap(spec.pad) for cell, ranks in evidence.ranks.items()}
    return Estimate(min(fold_means(cells)))

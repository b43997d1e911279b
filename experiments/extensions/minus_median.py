"""A post-processing step of your own: what a file hums all the time counts less.

    birdlab post windows.parquet --on validators --step minus_median:0.5

takes a share of the median of each species in a file from all its windows, so that a species that
the model hears in every window of a file loses, and a single call keeps its height.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from birdlab.evaluate.poststeps import Floats, Windows
from birdlab.spec.kinds import implements, register
from birdlab.spec.postprocess import PostStep, Share


@register("postprocess")
class MinusMedian(PostStep):
    """Minus a share of the median over the file's windows."""

    kind: Literal["minus_median"] = "minus_median"
    share: Share = 0.5
    main_field: ClassVar[str | None] = "share"


@implements(MinusMedian)
def subtract_median(spec: MinusMedian, probs: Floats, windows: Windows) -> Floats:
    """[W, C]: what is below 0 then becomes 0 by itself."""
    files = np.split(probs, windows.starts[1:])
    return np.concatenate([p - spec.share * np.median(p, axis=0) for p in files])

"""An augmentation of your own: one frozen spec class, one function.

birdlab.toml names this file under `extensions`; a spec then uses it as `polarity_flip`. The
hash of this file is part of the id of every cell that uses it: change a byte here, and those
cells are trained again, and no others. Nothing here imports torch: the lab loads its extensions
also where nothing is trained.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.base import Probability
from birdlab.spec.kinds import implements, register

if TYPE_CHECKING:
    from birdlab.sed.batch import ClipBatch
    from birdlab.sed.draws import Draws


@register("augmentation")
class PolarityFlip(AugmentationSpec):
    """The waveform upside down, as from a microphone with its wires swapped.

    A power spectrogram does not see the sign of a whole clip. So it only matters before a step
    that adds two clips: list it above `or_mixup`.
    """

    kind: Literal["polarity_flip"] = "polarity_flip"
    p: Probability = 0.5


@implements(PolarityFlip)
def flip_polarity(spec: PolarityFlip, batch: ClipBatch, draws: Draws) -> ClipBatch:
    """The batch with the sign of each clip turned with probability `p`; targets stay."""
    signs = np.where(draws.happens(spec.p), -1.0, 1.0)
    return replace(batch, wave=batch.wave * batch.wave.new_tensor(signs)[:, None])

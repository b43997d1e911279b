"""A trained model as a Predictor, on whatever device it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from birdlab.evaluate.windows import WHOLE, Share
from birdlab.sed.model import SEDModel

Floats = npt.NDArray[np.float32]


class TorchPredictor:
    """(P, M) of a trained model, each [B · k, C] float32; `columns` picks the scored classes.

    `centres` are the k parts of the input that are the windows of a pass, as shares of its length:
    the head sees the frames of each alone. The model is put in evaluation mode.
    """

    def __init__(
        self,
        model: SEDModel,
        columns: Iterable[int],
        device: torch.device,
        centres: Sequence[Share] = (WHOLE,),
    ) -> None:
        self.model = model.to(device).eval()
        self.columns = torch.as_tensor(list(columns), device=device)
        self.device, self.centres = device, tuple(centres)

    @torch.inference_mode()
    def __call__(self, waves: Floats) -> tuple[Floats, Floats]:
        """(P, M) for the inputs [B, samples] float32 of `iter_windows`."""
        said = self.model.hear(torch.from_numpy(waves).to(self.device), self.centres)
        p, m = (t.index_select(1, self.columns) for t in said)
        return p.float().cpu().numpy(), m.float().cpu().numpy()

"""A trained model as a Predictor, on whatever device it is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from birdlab.sed.model import SEDModel

Floats = npt.NDArray[np.float32]


class TorchPredictor:
    """(P, M) of a trained model, each [B, C] float32; `columns` picks the scored classes.

    `centre` is the part of the input that is the window, as shares of its length: the head sees
    the frames of that part alone. The model is put in evaluation mode.
    """

    def __init__(
        self,
        model: SEDModel,
        columns: Iterable[int],
        device: torch.device,
        centre: tuple[float, float] | None = None,
    ) -> None:
        self.model = model.to(device).eval()
        self.columns = torch.as_tensor(list(columns), device=device)
        self.device, self.centre = device, centre

    @torch.inference_mode()
    def __call__(self, waves: Floats) -> tuple[Floats, Floats]:
        """(P, M) for the inputs [B, samples] float32 of `iter_windows`."""
        output = self.model(torch.from_numpy(waves).to(self.device), self.centre)
        p, m = (t.index_select(1, self.columns) for t in (output.probs, output.time_max))
        return p.float().cpu().numpy(), m.float().cpu().numpy()

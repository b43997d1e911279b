"""Does the ONNX file say what the trained models say? On real clips and on odd ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from birdlab.errors import PromotionError
from birdlab.evaluate.windows import cut_windows
from birdlab.infer.session import OnnxPredictor

Floats = npt.NDArray[np.float32]

TOLERANCE = 1e-4
"""How far two float32 computations of the same probabilities may lie apart."""


@dataclass(frozen=True)
class ParityReport:
    """The largest absolute differences found, by what was tried.

    `by_case`: ONNX against torch for each input; `batch_invariance`: a clip alone against the
    same clip in a batch, both in ONNX; `n_windows` compared.
    """

    by_case: dict[str, float]
    batch_invariance: float
    n_windows: int

    @property
    def largest(self) -> float:
        """The largest difference of all."""
        return max(*self.by_case.values(), self.batch_invariance)

    def __str__(self) -> str:
        cases = ", ".join(f"{name} {value:.1e}" for name, value in self.by_case.items())
        return f"{cases}, alone against in a batch {self.batch_invariance:.1e}"


def odd_windows(input_samples: int, sample_rate_hz: int) -> dict[str, Floats]:
    """Inputs that break careless exports: each [1, input_samples] float32, peak 1 or silent."""
    t = np.arange(input_samples) / sample_rate_hz
    noise = np.random.default_rng(0).standard_normal(input_samples)
    impulse = np.zeros(input_samples)
    impulse[input_samples // 2] = 1.0
    waves = {
        "silence": np.zeros(input_samples),
        "square": np.sign(np.sin(2 * np.pi * 441.7 * t) + 1e-9),
        "clipped": np.clip(20 * noise, -1, 1),
        "constant": np.ones(input_samples),
        "impulse": impulse,
        "noise": noise,
        "tail": noise[: input_samples // 3],
    }
    return {name: cut_windows(wave, input_samples) for name, wave in waves.items()}


def check_parity(
    onnx_path: Path,
    torch_fn: Callable[[Floats], Floats],
    waves: Floats | None = None,
    *,
    tolerance: float = TOLERANCE,
) -> ParityReport:
    """How far the file at `onnx_path` lies from `torch_fn`, both `[B, samples] → [B, C]`.

    Tried on `waves` [n, samples] (inputs of real windows), on silence, square, clipping,
    constant, impulse, noise and a left-padded tail, in batches of 1, 3 and all; and whether a
    clip alone gives what it gives in a batch. Raises PromotionError when a difference exceeds
    `tolerance`, or a value is no probability.
    """
    predictor = OnnxPredictor(onnx_path, threads=1)
    card = predictor.card
    cases = odd_windows(card.input_samples, card.sample_rate_hz)
    if waves is not None and len(waves):
        cases["real"] = waves
    everything = np.concatenate(list(cases.values()))
    cases["batch of 3"], cases[f"batch of {len(everything)}"] = everything[-3:], everything
    by_case = {}
    for name, batch in cases.items():
        got, expected = predictor(batch), torch_fn(batch)
        if got.shape != expected.shape or not ((got >= 0) & (got < 1)).all():
            raise PromotionError(
                "the exported model gives something other than probabilities",
                where=f"{onnx_path}, input: {name}",
                got=f"shape {got.shape}, {np.nanmin(got):g} to {np.nanmax(got):g}",
                expected=f"shape {expected.shape} in [0, 1)",
            )
        by_case[name] = _largest(got, expected)
    alone = np.concatenate([predictor(wave[None]) for wave in everything])
    report = ParityReport(by_case, _largest(alone, predictor(everything)), len(everything))
    if not report.largest <= tolerance:
        raise PromotionError(
            "the exported model does not say what the trained one says",
            where=str(onnx_path),
            got=str(report),
            expected=f"differences of at most {tolerance:g}",
            fix="do not deploy it; report the backbone and the versions of torch and onnx",
        )
    return report


def _largest(a: Floats, b: Floats) -> float:
    return float(np.abs(a.astype(np.float64) - b).max())

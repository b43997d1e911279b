"""Does the ONNX file say what the trained models say? On real clips and on odd ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.errors import PromotionError
from birdlab.evaluate.windows import cut_windows
from birdlab.infer.session import OnnxPredictor
from birdlab.lab import write_whole

Floats = npt.NDArray[np.float32]
Predict = Callable[[Floats], Floats]

PARITY_FILE = "parity.json"
TOLERANCE = 1e-4
"""How far two float32 computations of the same probabilities may lie apart."""
BATCHES = (1, 3, 16)
_TORCH_BATCH = 8
SEVERAL_THREADS = 4
"""Threads of the session beside that of one thread; also where there are fewer cores."""


@dataclass(frozen=True)
class ParityReport:
    """The largest absolute differences found, by what was tried.

    `by_case`: ONNX against torch for the blend; `by_member`: for each member, by its output;
    `batch_invariance`: a clip alone against the same clip in a batch, both in ONNX; `n_windows`
    compared; `tolerance`: what was allowed; `settings`: what computed the ONNX side.
    """

    by_case: dict[str, float]
    batch_invariance: float
    n_windows: int
    by_member: dict[str, dict[str, float]] = field(default_factory=dict)
    tolerance: float = TOLERANCE
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        """The largest difference of all."""
        members = (value for cases in self.by_member.values() for value in cases.values())
        return max(*self.by_case.values(), self.batch_invariance, *members)

    @property
    def passed(self) -> bool:
        """Whether no difference exceeds what is allowed."""
        return self.largest <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """The report as `parity.json` holds it."""
        return {
            "tolerance": self.tolerance,
            "passed": self.passed,
            "largest": self.largest,
            "n_windows": self.n_windows,
            "blend": self.by_case,
            "members": self.by_member,
            "batch_invariance": self.batch_invariance,
            "settings": self.settings,
        }

    def __str__(self) -> str:
        cases = ", ".join(f"{name} {value:.1e}" for name, value in self.by_case.items())
        text = f"{cases}, alone against in a batch {self.batch_invariance:.1e}"
        for name, own in self.by_member.items():
            worst = max(own, key=lambda case: own[case])
            text += f"; {name} {own[worst]:.1e} ({worst})"
        return text


def save_parity(report: ParityReport, folder: Path) -> Path:
    """The path of the written `parity.json` in the folder of a model."""
    path = folder / PARITY_FILE
    write_whole(path, json.dumps(report.to_json(), indent=1))
    return path


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
        "short tail": noise[: max(2, input_samples // 50)],
        "long tail": noise[:-1],
        "tail of one sample": np.ones(1),
    }
    return {name: cut_windows(wave, input_samples) for name, wave in waves.items()}


def check_parity(
    onnx_path: Path,
    torch_fn: Predict,
    waves: Floats | None = None,
    *,
    members: Sequence[Predict] = (),
    tolerance: float = TOLERANCE,
    strict: bool = True,
) -> ParityReport:
    """How far the file at `onnx_path` lies from `torch_fn`, both `[B, samples] → [B · k, C]`.

    Tried on `waves` [n, samples] (inputs of real windows), on silence, square, clipping, constant,
    impulse, noise and left-padded tails of several lengths; in batches of 1, 3 and 16; in the first
    call of a session and in the next; on one thread and on several; and whether a clip alone gives
    what it gives in a batch. `members`: what each member of the file has to say, in
    their order, tried on the same inputs. Raises PromotionError when a value is no
    probability, and when a difference exceeds `tolerance`; the latter not unless `strict`.
    """
    predictor = OnnxPredictor(onnx_path, threads=1)
    kinds = odd_windows(predictor.card.input_samples, predictor.card.sample_rate_hz)
    if waves is not None and len(waves):
        kinds["real"] = waves
    everything = np.concatenate(list(kinds.values()))
    bounds = np.cumsum([0, *(len(own) for own in kinds.values())])
    rows = {name: slice(bounds[i], bounds[i + 1]) for i, name in enumerate(kinds)}
    expected = _batched(torch_fn, everything, _TORCH_BATCH)
    answers = _ways(onnx_path, predictor, everything)
    for way, got in answers.items():
        _check_probs(got, expected[: len(got)], f"{onnx_path}, {way}")
    alone = answers[_batch_name(1)]
    in_batches = [answers[_batch_name(n)] for n in BATCHES[1:]]
    report = ParityReport(
        {name: _largest(alone[own], expected[own]) for name, own in rows.items()}
        | {way: _largest(got, expected[: len(got)]) for way, got in answers.items()},
        max(_largest(alone, got) for got in in_batches),
        len(everything),
        _check_members(predictor, members, everything, rows),
        tolerance,
        dict(predictor.settings),
    )
    if strict and not report.passed:
        raise PromotionError(
            "the exported model does not say what the trained one says",
            where=str(onnx_path),
            got=str(report),
            expected=f"differences of at most {tolerance:g}",
            fix="do not deploy it; report the backbone and the versions of torch and onnx",
        )
    return report


def _ways(path: Path, predictor: OnnxPredictor, waves: Floats) -> dict[str, Floats]:
    """The answers to the same windows in every way they may be asked; the first call of a fresh
    session and the one after it see the first windows only.
    """
    fresh = OnnxPredictor(path, threads=1)
    few = waves[: BATCHES[1]]
    answers = {way: _batched(fresh, few, len(few)) for way in ("first call", "later call")}
    answers |= {_batch_name(n): _batched(predictor, waves, n) for n in BATCHES}
    several = OnnxPredictor(path, threads=SEVERAL_THREADS)
    return answers | {f"{SEVERAL_THREADS} threads": _batched(several, waves, BATCHES[-1])}


def _batch_name(n: int) -> str:
    return f"batch of {n}"


def _batched(predict: Predict, waves: Floats, batch: int) -> Floats:
    """The answers to all inputs, `batch` of them at a time, one row for each: [n, k · C].

    The last batch begins earlier, so that each is full, unless there are fewer inputs.
    """
    out: list[Floats] = []
    for start in range(0, len(waves), batch):
        first = max(0, min(start, len(waves) - batch))
        part = waves[first : first + batch]
        out.append(predict(part).reshape(len(part), -1)[start - first :])
    return np.concatenate(out)


def _check_probs(got: Floats, expected: Floats, where: str) -> None:
    if got.shape != expected.shape or not ((got >= 0) & (got < 1)).all():
        raise PromotionError(
            "the exported model gives something other than probabilities",
            where=where,
            got=f"shape {got.shape}, {np.nanmin(got):g} to {np.nanmax(got):g}",
            expected=f"shape {expected.shape} in [0, 1)",
        )


def _check_members(
    predictor: OnnxPredictor, members: Sequence[Predict], waves: Floats, rows: dict[str, slice]
) -> dict[str, dict[str, float]]:
    """How far each member lies from its torch model, by input; by the name of its output."""
    found = {}
    for number, member in enumerate(members):

        def ask(part: Floats, number: int = number) -> Floats:
            return predictor.member_probs(part, [number])[0]

        expected = _batched(member, waves, _TORCH_BATCH)
        own = _batched(ask, waves, BATCHES[-1])
        name = predictor.card.members[number].output
        found[name] = {kind: _largest(own[part], expected[part]) for kind, part in rows.items()}
    return found


def _largest(a: Floats, b: Floats) -> float:
    """The largest absolute difference; infinite where either is not a number."""
    apart = np.abs(a.astype(np.float64) - b)
    return float(apart.max()) if np.isfinite(apart).all() else math.inf

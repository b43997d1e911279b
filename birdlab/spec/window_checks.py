"""What holds of the windows that are scored: context, overlap, synthetic soundscapes."""

from __future__ import annotations

from collections.abc import Sequence

from birdlab.spec.model import ModelSpec
from birdlab.spec.parts import EvaluateSpec
from birdlab.spec.postprocess import PostStep


def check_context(evaluate: EvaluateSpec, window_s: float) -> None:
    """ValueError for a context shorter than the windows that it is to hold."""
    context_s, k = evaluate.context_s, evaluate.windows_per_pass
    least = k * window_s
    if k > 1 and (context_s is None or context_s < least):
        raise ValueError(
            f"evaluate.windows_per_pass is {k}, and evaluate.context_s "
            f"{'is not set' if context_s is None else f'is {context_s:g}'}: give the "
            f"{least:g} s of these windows or more"
        )
    if context_s is not None and context_s < least:
        raise ValueError(
            f"evaluate.context_s is {context_s:g}: give the {least:g} s of a window or more"
        )


def check_overlap(
    evaluate: EvaluateSpec, window_s: float, model: ModelSpec, steps: Sequence[PostStep]
) -> None:
    """ValueError for a step of windows that is no part of one, or an average over none."""
    hop_s = evaluate.hop_s
    if hop_s is not None:
        parts = window_s / hop_s
        if round(parts) < 2 or abs(parts - round(parts)) > 1e-6:
            raise ValueError(
                f"evaluate.hop_s is {hop_s:g}: give the {window_s:g} s of a window divided by "
                "2, 3, 4 ..., or leave it out for windows one after the other"
            )
        rate_hz = getattr(model.frontend, "sample_rate_hz", 32_000)
        if round(window_s * rate_hz) % round(parts):
            raise ValueError(
                f"evaluate.hop_s is {hop_s:g}: the {round(window_s * rate_hz)} samples of a "
                f"window at {rate_hz} Hz are not {round(parts)} whole parts; take another "
                "number of parts"
            )
        return
    for step in steps:
        if step.kind == "shift_average":
            raise ValueError(
                f"postprocess.{step.name} averages overlapping windows: set evaluate.hop_s, "
                f"such as {window_s / 2:g}, which averages them without this step too"
            )


def check_synthetic(evaluate: EvaluateSpec, window_s: float) -> None:
    """ValueError for synthetic soundscapes that are no whole windows, or songs that fit in none."""
    synthetic = evaluate.synthetic
    if synthetic is None:
        return
    windows = synthetic.seconds / window_s
    if windows < 1 or abs(windows - round(windows)) > 1e-9:
        raise ValueError(
            f"evaluate.synthetic.seconds is {synthetic.seconds:g}: give a multiple of the "
            f"{window_s:g} s of a window"
        )
    if synthetic.min_s > window_s:
        raise ValueError(
            f"evaluate.synthetic.min_s is {synthetic.min_s:g}: no window of {window_s:g} s "
            "holds that"
        )

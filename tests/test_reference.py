"""The reference author's choices as arms: every one is a valid spec, builds, and trains apart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from birdlab.cellfiles import is_finished, outputs_folder
from birdlab.evaluate.outputs import StoredOutputs, load_outputs
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.run import run_experiment
from birdlab.sed.model import SEDModel
from birdlab.spec import kinds
from birdlab.spec.arms import sweep_arms
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import canonical_json
from birdlab.spec.recipe import Length
from birdlab.spec.sweep import Arm, load_sweep

ROOT = Path(__file__).parents[1]
ASKED = {
    "constant-Q": "frontend constant_q",
    "PCEN": "frontend pcen",
    "LEAF-like": "frontend leaf",
    "transformer": "backbone transformer",
    "ECAPA-TDNN": "backbone ecapa_tdnn",
    "pitch": "augmentation pitch",
    "speed": "augmentation speed",
    "pink noise": "augmentation coloured_noise",
    "beta mixup 0.4": "augmentation mixup",
    "more recordings from 32 kHz up": "clean sample_rate",
}
"""Arms of the negatives that bring in a kind of their own."""


@pytest.fixture(scope="module", autouse=True)
def extensions() -> Iterator[None]:
    """The extensions of the checkout, forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_KINDS", "_FUNCTIONS", "_loaded"):
            patch.setattr(kinds, name, dict(getattr(kinds, name)))
        open_lab(ROOT)
        yield


def arms_of(name: str) -> dict[str, Arm]:
    sweep = load_sweep(ROOT / "experiments" / f"{name}.yaml")
    return {arm.title: arm for arm in sweep_arms(sweep)}


def kinds_of(spec: ExperimentSpec) -> set[str]:
    used = (spec.stages, spec.model, spec.data)
    return {f"{kind.family} {kind.name}" for part in used for kind in kinds.kinds_in(part)}


def test_every_choice_that_did_not_help_is_an_arm() -> None:
    arms = arms_of("reference_negatives")
    base = arms["base"].spec
    for title, kind in ASKED.items():
        assert kinds_of(arms[title].spec) - kinds_of(base) == {kind}, title
    specs = {title: arm.spec for title, arm in arms.items()}
    assert specs["10 s clips"].train.window_s == 10
    assert specs["deep supervision"].model.feature_level == (-3, -2, -1)
    assert specs["loss on attention and time maximum"].train.loss.time_max == 1  # type: ignore[attr-defined]
    noise = {a.name: a for a in specs["everyday noise"].stages[-1].augment}["background"]
    assert noise.noise == ("demo", "demo-environment")  # type: ignore[attr-defined]
    assert specs["more recordings"].data.extra == ("demo-phones",)


def test_tuning_arms_change_the_tuning_alone() -> None:
    arms = arms_of("reference_negatives")
    pretrained = arms["pretrained"].spec.stages
    tuning = {t: a.spec.stages for t, a in arms.items() if t.startswith("tuning ")}
    assert len(tuning) == 4
    for first, second in tuning.values():
        assert first == pretrained[0]
        assert second.model_copy(update={"train": pretrained[1].train}) == pretrained[1]
    trains = [stages[1].train for stages in tuning.values()]
    assert [t.length.epochs for t in trains] == [30, 10, 30, 30]
    assert [t.freeze_epochs for t in trains] == [0, 0, "all", 0]
    rates = [(t.optimizer.lr, t.optimizer.backbone_lr) for t in trains]  # type: ignore[attr-defined]
    assert rates == [(3e-3, None), (9e-3, None), (9e-3, None), (9e-3, 9e-4)]


def test_each_choice_that_was_kept_is_left_out_once() -> None:
    arms = arms_of("reference_positives")
    everything = arms.pop("everything").spec
    assert {a.kind for a in everything.stages[0].augment} == {
        *("or_mixup", "background", "random_filtering", "spec_mask")
    }
    gone = {
        "no mixup": "or_mixup",
        "no no-call noise": "background",
        "no random filtering": "random_filtering",
        "no spectrogram masks": "spec_mask",
    }
    for title, name in gone.items():
        for mine, theirs in zip(arms[title].spec.stages, everything.stages, strict=True):
            assert mine.augment == tuple(a for a in theirs.augment if a.name != name)
    changed = {
        "cross-entropy per class for focal": ("loss", "bce"),
        "plain sampling": ("sampler", "plain"),
        "constant rate": ("schedule", "constant"),
    }
    for title, (field, kind) in changed.items():
        assert {getattr(s.train, field).kind for s in arms[title].spec.stages} == {kind}
    tenth = arms["a tenth of the rate"].spec.stages[1].train.optimizer
    assert tenth.lr * 10 == pytest.approx(everything.train.optimizer.lr)  # type: ignore[attr-defined]
    assert [stage.name for stage in arms["no pretraining"].spec.stages] == ["tune"]
    blend = arms["clip probability only"].spec
    assert (blend.output.clip, blend.output.time_max) == (1, 0)
    assert blend.stages == everything.stages
    assert len(arms) == 10


def test_every_distinct_model_of_the_arms_builds_and_hears() -> None:
    arms = {**arms_of("reference_negatives"), **arms_of("reference_positives")}
    models = {canonical_json(arm.spec.model): arm.spec.model for arm in arms.values()}
    assert len(models) == 7
    for spec in models.values():
        torch.manual_seed(0)
        model = SEDModel(spec, 5)
        wave = torch.randn(2, 64_000).clamp(-1, 1)
        output = model(wave)
        assert output.logits.shape == (2, 5) and torch.isfinite(output.logits).all()
        output.logits.sum().backward()
        moved = [p.grad for p in model.backbone.parameters() if p.requires_grad]
        assert moved and all(grad is not None for grad in moved)


# ---------------------------------------------------------------- the campaign


@pytest.fixture(scope="module")
def demo_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab of its own with the experiments of the checkout and the demo at its full size."""
    root = tmp_path_factory.mktemp("reference")
    shutil.copytree(ROOT / "experiments", root / "experiments")
    shutil.copy(ROOT / "birdlab.toml", root)
    return open_lab(root)


def shorten(spec: ExperimentSpec) -> ExperimentSpec:
    """The experiment on fold 0 at a thirtieth of its length: one epoch where it has 30."""
    stages = []
    for stage in spec.stages:
        epochs = stage.train.length.epochs
        assert epochs is not None
        length = Length(epochs=1) if epochs == 30 else Length(clips=168 * epochs // 30)
        train = stage.train.model_copy(update={"length": length})
        stages.append(stage.model_copy(update={"train": train}))
    cells = spec.cells.model_copy(update={"folds": (0,)})
    return spec.model_copy(update={"stages": tuple(stages), "cells": cells})


@pytest.mark.slow
def test_every_arm_trains_an_epoch_and_answers_in_its_own_way(demo_lab: Lab) -> None:
    outputs: dict[str, StoredOutputs] = {}
    for title, arm in arms_of("reference_negatives").items():
        spec = shorten(arm.spec)
        result = run_experiment(spec, lab=demo_lab)
        (cell,) = plan_experiment(spec, demo_lab).final_cells
        assert is_finished(demo_lab, cell)
        assert np.isfinite(result.scores["cv/padded_cmap"]), title
        outputs[title] = load_outputs(outputs_folder(demo_lab, cell))
    titles = list(outputs)
    for i, title in enumerate(titles):
        mine = outputs[title].windows
        assert mine.recordings == outputs["base"].windows.recordings
        assert np.isfinite(mine.clip_probs).all() and np.isfinite(mine.time_max).all()
        for other in titles[:i]:
            gap = np.abs(mine.clip_probs - outputs[other].windows.clip_probs).max()
            assert gap > 1e-4, f"{title} answers as {other} does"

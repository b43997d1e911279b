"""The training loop: a golden tiny cell, repetition, a loss that is lost."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY_SPEC

from birdlab.data.store import WaveStore
from birdlab.errors import CellError
from birdlab.sed.draws import torch_seed
from birdlab.sed.fit import EpochReport, fit
from birdlab.sed.loader import ClipSource, Takes, locate_takes
from birdlab.sed.model import SEDModel
from birdlab.sed.predictor import TorchPredictor
from birdlab.sed.steps import Steps
from birdlab.sed.targets import Targets
from birdlab.spec.experiment import build_spec
from birdlab.spec.yamlfile import parse_yaml

GOLDEN = Path(__file__).parent / "golden" / "cell.json"
RATE = 32_000
LENGTHS = (70_000, 20_000, 64_000, 130_000, 65_000, 40_000, 90_000, 80_000)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ClipSource:
    """Eight recordings of tones in noise, three classes, one noise set."""
    folder = tmp_path_factory.mktemp("fit")
    store = WaveStore(folder / "store", RATE)
    rng = np.random.Generator(np.random.PCG64(7))
    items: list[tuple[str, Path]] = []
    for i, n in enumerate((*LENGTHS, 50_000)):
        tone = np.sin(2 * np.pi * (1000 + 1500 * (i % 3)) * np.arange(n) / RATE)
        wave = 0.3 * tone + rng.uniform(-0.2, 0.2, n)
        path = folder / f"{i}.wav"
        soundfile.write(path, (wave * 32767).astype(np.int16), RATE, subtype="PCM_16")
        items.append((store.key(str(i)), path))
    assert store.build(items) == []
    keys = [key for key, _ in items]
    places = np.array([i % 3 for i in range(8)], np.int32)
    targets = Targets(places, np.zeros(9, np.int64), np.zeros(0, np.int32), 3)

    def takes(some: list[str]) -> Takes:
        return locate_takes(store, np.array(some, "S32"), np.full((len(some), 2), np.nan))

    return ClipSource(store, takes(keys[:8]), targets, {"tiny": takes(keys[8:])}, 2 * RATE)


@dataclass
class Trained:
    reports: list[EpochReport]
    clip_probs: Any
    time_max: Any
    state: dict[str, torch.Tensor]


def train(source: ClipSource, changes: dict[str, Any] | None = None, **given: Any) -> Trained:
    spec = build_spec(parse_yaml(TINY_SPEC, "x"), changes)
    options: dict[str, Any] = {"seed": 0, "fold": 0, "steps": Steps(3, 2, 4), **given}
    steps = options.pop("steps")
    torch.set_num_threads(1)
    torch.manual_seed(torch_seed(options["seed"], options["fold"], "train", "init"))
    model = SEDModel(spec.model, 3)
    reports: list[EpochReport] = []
    fit(
        model,
        source,
        spec.train,
        spec.augment,
        steps,
        device=CPU,
        names=lambda rows: [f"recording{i}" for i in rows],
        report=reports.append,
        **options,
    )
    rng = np.random.Generator(np.random.PCG64(8))
    waves = rng.uniform(-1, 1, (2, 5 * RATE)).astype(np.float32)
    p, m = TorchPredictor(model, [2, 0], CPU)(waves)
    return Trained(reports, p, m, model.state_dict())


def test_a_golden_tiny_cell(source: ClipSource) -> None:
    """Three steps through every part: when this fails, a part gives other numbers.

    Then raise the part's semantics number (in its `@register`, or in cellplan.SEMANTICS), so that
    no lab takes old cells for new ones, and write the golden file with
    BIRDLAB_UPDATE_GOLDEN=1. The tolerance leaves room for other processors, whose sums round
    elsewhere; a rate of 1e-5 keeps Adam's first steps, which follow the sign of a gradient,
    from blowing that up.
    """
    got = train(source, {"train.optimizer.lr": 1e-5})
    found = {
        "losses": [r.loss for r in got.reports],
        "rates": [r.lr for r in got.reports],
        "clip_probs": got.clip_probs.tolist(),
        "time_max": got.time_max.tolist(),
    }
    if os.environ.get("BIRDLAB_UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert found["rates"] == pytest.approx(golden["rates"])
    assert found["losses"] == pytest.approx(golden["losses"], abs=1e-4)
    assert np.allclose(found["clip_probs"], golden["clip_probs"], atol=1e-4, rtol=0)
    assert np.allclose(found["time_max"], golden["time_max"], atol=1e-4, rtol=0)


def test_equal_seeds_give_equal_bits_and_others_do_not(source: ClipSource) -> None:
    one, two = train(source), train(source)
    assert all(torch.equal(one.state[k], two.state[k]) for k in one.state)
    assert np.array_equal(one.clip_probs, two.clip_probs)
    for other in ({"seed": 1}, {"fold": 1}, {"fold": None}):
        assert not np.array_equal(one.clip_probs, train(source, **other).clip_probs)


def test_reports_follow_the_schedule_and_the_last_epoch_may_be_short(source: ClipSource) -> None:
    got = train(source, steps=Steps(3, 2, 4))
    assert [(r.epoch, r.n_epochs) for r in got.reports] == [(0, 2), (1, 2)]
    assert got.reports[0].lr == pytest.approx(3e-3)
    assert got.reports[1].lr == pytest.approx((3e-3 + 1e-6) / 2)
    assert all(r.clips_per_s > 0 and 0 <= r.wait_share <= 1 for r in got.reports)


def test_training_learns(source: ClipSource) -> None:
    got = train(source, {"augment": [], "train.loss": {"kind": "bce"}}, steps=Steps(24, 2, 8))
    losses = [r.loss for r in got.reports]
    assert np.mean(losses[-3:]) < 0.75 * np.mean(losses[:2])


def test_columns_pick_the_scored_classes(source: ClipSource) -> None:
    torch.manual_seed(0)
    model = SEDModel(build_spec(parse_yaml(TINY_SPEC, "x")).model, 3)
    waves = np.random.default_rng(0).uniform(-1, 1, (3, RATE)).astype(np.float32)
    whole = TorchPredictor(model, [0, 1, 2], CPU)(waves)
    some = TorchPredictor(model, [2, 0], CPU)(waves)
    for a, b in zip(whole, some, strict=True):
        assert np.array_equal(a[:, [2, 0]], b)
        assert a.dtype == np.float32


@pytest.mark.parametrize("changes", [{"train.precision": "bf16"}, {"train.channels_last": True}])
def test_precision_and_layout_train_too(source: ClipSource, changes: dict[str, Any]) -> None:
    got = train(source, changes)
    assert np.isfinite(got.clip_probs).all()
    assert np.allclose(got.clip_probs, train(source).clip_probs, atol=0.1)


def test_a_loss_that_is_lost_names_epoch_step_and_recordings(source: ClipSource) -> None:
    with pytest.raises(CellError) as caught:
        train(
            source,
            {"train.optimizer.lr": 1e30, "train.loss": {"kind": "bce"}},
            steps=Steps(8, 2, 4),
        )
    error = caught.value
    assert error.what.startswith("the loss became")
    assert error.where in {f"epoch {e}, step {s}" for e in range(4) for s in range(2)}
    assert "recording" in str(error.got)
    assert "train.optimizer.lr" in str(error.fix)
    assert "birdlab data" not in str(error.fix), "there is no such command"

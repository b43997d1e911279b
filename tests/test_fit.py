"""The training loop: a golden tiny cell, repetition, a loss that is lost."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY_SPEC

from birdlab.data.store import WaveStore
from birdlab.errors import CellError
from birdlab.sed import checkpoint
from birdlab.sed.averaging import mean_of
from birdlab.sed.checkpoint import CHECKPOINT, save_tensors
from birdlab.sed.choice import best_epochs, is_exhausted, wanted_epochs
from birdlab.sed.draws import EpochDraws, torch_seed
from birdlab.sed.fit import EpochReport, Fitted, fit
from birdlab.sed.learner import parts_of
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
    return build_tones(tmp_path_factory.mktemp("fit"))


def build_tones(folder: Path) -> ClipSource:
    """Eight recordings of tones in noise, three classes, one noise set."""
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
    fitted: Fitted


class Validation:
    """Gives the scores it was made with, one a call, and keeps the weights it was shown."""

    def __init__(self, *scores: float) -> None:
        self.scores, self.seen = list(scores), list[dict[str, torch.Tensor]]()

    def __call__(self, model: torch.nn.Module) -> Mapping[str, float]:
        assert not model.training
        self.seen.append({n: t.clone() for n, t in model.state_dict().items()})
        return {"padded_cmap": self.scores[len(self.seen) - 1]}


def train(source: ClipSource, changes: dict[str, Any] | None = None, **given: Any) -> Trained:
    spec = build_spec(parse_yaml(TINY_SPEC, "x"), changes)
    options: dict[str, Any] = {"seed": 0, "fold": 0, "steps": Steps(3, 2, 4), **given}
    steps = options.pop("steps")
    torch.set_num_threads(1)
    torch.manual_seed(torch_seed(options["seed"], options["fold"], "train", "init"))
    model = SEDModel(spec.model, 3)
    reports: list[EpochReport] = []
    report = options.pop("report", reports.append)
    hook = options.pop("hook", None)
    if hook is not None:
        value: Any = dict(model.named_parameters())["head.value.weight"]
        value.register_hook(hook)
    fitted = fit(
        model,
        source,
        spec.train,
        spec.augment,
        steps,
        device=CPU,
        names=lambda rows: [f"recording{i}" for i in rows],
        report=report,
        **options,
    )
    rng = np.random.Generator(np.random.PCG64(8))
    waves = rng.uniform(-1, 1, (2, 5 * RATE)).astype(np.float32)
    p, m = TorchPredictor(model, [2, 0], CPU)(waves)
    return Trained(reports, p, m, model.state_dict(), fitted)


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
    assert error.where in {f"epoch {e}, step {s}" for e in (1, 2, 3, 4) for s in (1, 2)}
    assert "recording" in str(error.got)
    assert "train.optimizer.lr" in str(error.fix)
    assert "birdlab data" not in str(error.fix), "there is no such command"


# ---------------------------------------------------------------- options


def same(one: Mapping[str, torch.Tensor], two: Mapping[str, torch.Tensor]) -> bool:
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


OPTIONS: dict[str, dict[str, Any]] = {
    "accumulate": {"train.accumulate": 2},
    "clip_norm": {"train.clip_norm": 1e-3, "train.optimizer": {"kind": "sgd", "lr": 0.1}},
    "backbone_lr": {"train.optimizer": {"kind": "adam", "lr": 3e-3, "backbone_lr": 1e-4}},
    "warmup": {"train.schedule": {"kind": "cosine", "warmup_epochs": 1}},
    "ema": {"train.ema_decay": 0.9},
    "freeze one": {"train.freeze_epochs": 1},
    "freeze all": {"train.freeze_epochs": "all"},
    "bf16": {"train.precision": "bf16"},
    "fp16": {"train.precision": "fp16"},
    "last 2": {"train.average": {"k": 2}},
    "best": {"train.checkpoint": "best", "train.validate_every": 1},
    "best 2": {"train.average": {"of": "best", "k": 2}, "train.validate_every": 1},
    "early stop": {"train.early_stop": 1, "train.validate_every": 1},
}


@pytest.fixture(scope="module")
def plain(source: ClipSource) -> Trained:
    return train(source, steps=Steps(6, 2, 4))


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_the_weights(source: ClipSource, plain: Trained, option: str) -> None:
    changes = OPTIONS[option]
    base = plain.state
    if option == "clip_norm":
        sgd = {"train.optimizer": changes["train.optimizer"]}
        base = train(source, sgd, steps=Steps(6, 2, 4)).state
    got = train(source, changes, steps=Steps(6, 2, 4), validate=Validation(0.5, 0.4, 0.3))
    assert not same(got.state, base)
    assert all(torch.isfinite(t).all() for t in got.state.values() if t.is_floating_point())
    again = train(source, changes, steps=Steps(6, 2, 4), validate=Validation(0.5, 0.4, 0.3))
    assert same(got.state, again.state)


def test_looking_at_the_fold_changes_no_weight(source: ClipSource, plain: Trained) -> None:
    looking = train(
        source,
        {"train.validate_every": 2},
        steps=Steps(6, 2, 4),
        validate=Validation(0.1, 0.2),
    )
    assert same(looking.state, plain.state)
    assert [dict(r.scores) for r in looking.reports] == [
        {},
        {"padded_cmap": 0.1},
        {"padded_cmap": 0.2},
    ]
    assert [(r.best, r.best_epoch) for r in looking.reports] == [(None, None), (0.1, 1), (0.2, 2)]
    assert [row.get("padded_cmap") for row in looking.fitted.curves] == [None, 0.1, 0.2]
    assert looking.fitted.chosen == plain.fitted.chosen == "last"


def test_a_frozen_backbone_stays_as_it_is(source: ClipSource) -> None:
    one = {**OPTIONS["freeze one"], "train.validate_every": 1}
    seen = Validation(0.1, 0.2, 0.3)
    train(source, one, steps=Steps(6, 2, 4), validate=seen)
    torch.manual_seed(torch_seed(0, 0, "train", "init"))
    fresh = SEDModel(build_spec(parse_yaml(TINY_SPEC, "x")).model, 3).state_dict()
    backbone = [n for n in fresh if n.startswith("backbone.")]
    assert any("running_mean" in n for n in backbone)
    for name in backbone:
        assert torch.equal(seen.seen[0][name], fresh[name]), name
    assert not same(seen.seen[0], fresh), "the head learns meanwhile"
    assert any(not torch.equal(seen.seen[1][n], fresh[n]) for n in backbone)


def test_rates_of_a_frozen_stage_follow_the_same_schedule(source: ClipSource) -> None:
    given = [train(source, c, steps=Steps(6, 2, 4)) for c in ({}, OPTIONS["freeze one"])]
    assert [r.lr for r in given[0].reports] == [r.lr for r in given[1].reports]


def test_accumulation_takes_the_gradient_of_the_whole_step(source: ClipSource) -> None:
    """Without batch norms in training mode and dropout, parts give what the whole gives."""
    still = {
        "train.freeze_epochs": "all",
        "model.head": {"kind": "sed_attention", "hidden": 16, "dropout": 0.0},
        "train.optimizer": {"kind": "sgd", "lr": 0.1},
    }
    whole = train(source, still)
    parts = train(source, {**still, "train.accumulate": 4})
    for name, tensor in whole.state.items():
        assert torch.allclose(tensor.float(), parts.state[name].float(), atol=1e-5), name
    assert [r.loss for r in whole.reports] == pytest.approx([r.loss for r in parts.reports])
    assert parts_of(10, 4) == [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 10)]
    assert parts_of(3, 8) == [slice(0, 1), slice(1, 2), slice(2, 3)]


# ---------------------------------------------------------------- which weights


def test_the_best_epoch_is_the_one_that_was_scored_best(source: ClipSource) -> None:
    seen = Validation(0.2, 0.5, 0.5)
    got = train(source, OPTIONS["best"], steps=Steps(6, 2, 4), validate=seen)
    assert same(got.state, seen.seen[1]), "of equal ones the earlier"
    assert got.fitted.chosen == "best epoch 2 of 3"


def test_the_running_mean_is_what_is_scored_and_kept(source: ClipSource, plain: Trained) -> None:
    seen = Validation(0.2, 0.5, 0.6)
    ema = {**OPTIONS["ema"], "train.validate_every": 1}
    got = train(source, ema, steps=Steps(6, 2, 4), validate=seen)
    assert same(got.state, seen.seen[2])
    assert same(got.state, train(source, OPTIONS["ema"], steps=Steps(6, 2, 4)).state)
    assert [r.loss for r in got.reports] == [r.loss for r in plain.reports], "training goes on raw"


@pytest.mark.parametrize(("of", "epochs"), [("last", (1, 2)), ("best", (0, 2))])
def test_an_average_is_the_mean_with_norms_made_anew(
    source: ClipSource, of: str, epochs: tuple[int, ...]
) -> None:
    seen = Validation(0.5, 0.1, 0.4)
    changes = {"train.average": {"of": of, "k": 2}, "train.validate_every": 1}
    got = train(source, changes, steps=Steps(6, 2, 4), validate=seen)
    mean = mean_of(seen.seen[e] for e in epochs)
    norms = [n for n in mean if "running_" in n]
    assert norms
    for name in set(mean) - set(norms):
        if "num_batches" not in name:
            assert torch.equal(got.state[name], mean[name]), name
    assert any(not torch.allclose(got.state[n], mean[n], atol=1e-3) for n in norms)
    assert got.fitted.chosen == f"mean of the {of} 2 of 3"


def test_it_stops_early_and_says_so(source: ClipSource) -> None:
    changes = {"train.early_stop": 2, "train.validate_every": 1}
    got = train(source, changes, steps=Steps(10, 2, 4), validate=Validation(0.1, 0.5, 0.4, 0.5))
    assert len(got.reports) == 4
    assert got.fitted.chosen == "epoch 4 of 5, stopped early"
    both = {**changes, "train.checkpoint": "best"}
    got = train(source, both, steps=Steps(10, 2, 4), validate=Validation(0.1, 0.5, 0.4, 0.5))
    assert got.fitted.chosen == "best epoch 2 of 4, stopped early"


def test_what_a_choice_keeps() -> None:
    scores = [(0, 0.1), (1, 0.4), (2, 0.4), (3, 0.2)]
    assert best_epochs(scores, 3) == [1, 2, 3]
    assert [is_exhausted(scores[:n], 2) for n in range(5)] == [False, False, False, False, True]
    assert not is_exhausted(scores, None)
    spec = build_spec(parse_yaml(TINY_SPEC, "x"), {"train.average": {"k": 3}}).train
    assert [wanted_epochs(spec, [], done, 5) for done in (2, 3, 5)] == [[], [2], [2, 3, 4]]


def test_a_recipe_that_is_steered_needs_something_to_steer_it(source: ClipSource) -> None:
    with pytest.raises(CellError, match="this stage has none") as caught:
        train(source, OPTIONS["best"])
    assert "checkpoint: best" in str(caught.value)


def test_two_epochs_never_repeat_the_same_draws(source: ClipSource) -> None:
    from birdlab.sed.loader import epoch_batches

    spec = build_spec(parse_yaml(TINY_SPEC, "x"))
    waves = []
    for epoch in range(4):
        draws = EpochDraws(0, 0, epoch)
        batches = epoch_batches(source, spec.train.sampler, spec.augment, draws, 2, 4, CPU, 0)
        waves.append(torch.cat([clips.wave for _, _, clips in batches]))
    for i, one in enumerate(waves):
        for other in waves[i + 1 :]:
            assert not any(torch.equal(a, b) for a in one for b in other)


# ---------------------------------------------------------------- precision, compiling


def test_fp16_leaves_out_steps_that_overflow_and_stops_where_all_do(source: ClipSource) -> None:
    calls = []

    def overflow_once(grad: torch.Tensor) -> torch.Tensor:
        calls.append(grad)
        return grad * float("inf") if len(calls) == 2 else grad

    changes = {"train.precision": "fp16", "train.window_s": 1}
    got = train(source, changes, steps=Steps(3, 3, 2), hook=overflow_once)
    assert len(calls) == 3
    assert all(torch.isfinite(t).all() for t in got.state.values() if t.is_floating_point())
    with pytest.raises(CellError, match="overflows however it is scaled"):
        train(source, changes, steps=Steps(60, 60, 2), hook=lambda g: g * float("inf"))


def test_a_gradient_that_is_lost_stops_training_at_its_step(source: ClipSource) -> None:
    with pytest.raises(CellError, match="with a gradient of nan") as caught:
        train(source, hook=lambda grad: grad * float("nan"))
    assert caught.value.where == "epoch 1, step 1"


SMALL: dict[str, Any] = {
    "model.backbone": {"kind": "transformer", "width": 8, "depth": 1, "heads": 1},
    "model.head": {"kind": "pooled"},
    "train.window_s": 1,
}
COMPILED = {**SMALL, "train.compile": True}


@pytest.mark.slow
def test_a_compiled_network_trains_to_the_same_but_for_last_digits(source: ClipSource) -> None:
    one, two = (
        train(source, SMALL, steps=Steps(2, 2, 2)),
        train(source, COMPILED, steps=Steps(2, 2, 2)),
    )
    for name, tensor in one.state.items():
        assert torch.allclose(tensor.float(), two.state[name].float(), atol=2e-2), name
    assert not same(one.state, two.state)


def test_a_network_that_cannot_be_compiled_says_so(source: ClipSource) -> None:
    import torch._inductor.config as inductor

    torch.compiler.reset()
    with (
        inductor.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}),
        pytest.raises(CellError, match="cannot be compiled") as caught,
    ):
        train(source, COMPILED, steps=Steps(2, 2, 2))
    torch.compiler.reset()
    assert "train.compile" in str(caught.value)


# ---------------------------------------------------------------- what is saved


def test_a_lost_batch_is_saved(source: ClipSource, tmp_path: Path) -> None:
    with pytest.raises(CellError) as caught:
        train(source, hook=lambda grad: grad * float("nan"), failed=tmp_path / "failed")
    (file,) = (tmp_path / "failed").iterdir()
    assert str(file) in str(caught.value.got)
    with np.load(file, allow_pickle=False) as saved:
        assert saved["waves"].shape == (4, 2 * RATE)
        assert np.isclose(np.abs(saved["waves"]).max(), 1)
        assert saved["targets"].shape == (4, 3)
        assert [str(n) for n in saved["recordings"]] == str(caught.value.got).split(": ")[1].split(
            ";"
        )[0].split(", ")
        assert (saved["epoch"], saved["step"]) == (0, 0)


class Breaking(WaveStore):
    """A store that is gone after so many reads."""

    left = 0

    def read_row(self, *given: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise OSError("the store is gone")
        return super().read_row(*given)


def breaking(source: ClipSource, after: int) -> ClipSource:
    """The source without augmentations, which breaks after so many batches of 4."""
    store = Breaking(source.waves.root, RATE)
    assert store.missing([]) == []  # reads the index
    store.left = 4 * after
    return replace(source, waves=store)


RESUMED: dict[str, dict[str, Any]] = {
    "plain": {},
    "ema and accumulation": {"train.ema_decay": 0.9, "train.accumulate": 2},
    "fp16": {"train.precision": "fp16", "train.clip_norm": 1.0},
    "average of frozen": {"train.average": {"k": 2}, "train.freeze_epochs": "all"},
    "radam": {"train.optimizer": {"kind": "radam", "lr": 1e-3, "backbone_lr": 1e-4}},
    "sgd": {"train.optimizer": {"kind": "sgd", "lr": 0.01}, "train.channels_last": True},
}


@pytest.mark.parametrize("option", RESUMED)
def test_training_that_broke_within_an_epoch_goes_on_to_the_same_bits(
    source: ClipSource, tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(checkpoint, "SAVE_SHARE", 1e9)
    changes = {**RESUMED[option], "augment": ["spec_mask"]}
    steps = Steps(6, 3, 4)
    undisturbed = train(source, changes, steps=steps)
    epochs: list[int] = []
    for after in (2, 1, 1):
        with pytest.raises(OSError, match="gone"):
            train(
                breaking(source, after),
                changes,
                steps=steps,
                workers=0,
                checkpoint=tmp_path,
                resumed=epochs.append,
            )
    for _ in range(2):  # the second time everything is trained already
        got = train(source, changes, steps=steps, checkpoint=tmp_path, resumed=epochs.append)
        assert same(got.state, undisturbed.state)
        for mine, theirs in zip(got.fitted.curves, undisturbed.fitted.curves, strict=True):
            assert (mine["loss"], mine["lr"]) == (theirs["loss"], theirs["lr"])
    assert epochs == [0, 1, 1, 2]


def test_no_epoch_is_trained_twice_when_its_scores_were_interrupted(
    source: ClipSource, tmp_path: Path
) -> None:
    def interrupted(_: torch.nn.Module) -> Mapping[str, float]:
        raise KeyboardInterrupt

    changes = {"train.validate_every": 1, "augment": []}
    with pytest.raises(KeyboardInterrupt):
        train(source, changes, steps=Steps(4, 2, 4), checkpoint=tmp_path, validate=interrupted)
    once = breaking(source, 2)  # the steps of one epoch, and no more
    scores = Validation(0.1, 0.2)
    got = train(
        once, changes, steps=Steps(4, 2, 4), workers=0, checkpoint=tmp_path, validate=scores
    )
    assert [r.epoch for r in got.reports] == [0, 1]
    assert same(
        got.state, train(source, changes, steps=Steps(4, 2, 4), validate=Validation(0.1, 0.2)).state
    )


class Disk:
    """A disk on which a checkpoint takes so long, and the clock; an epoch takes a second."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds, self.epoch = 0.0, seconds, 0
        self.saved: list[int] = []
        self.full_after = 99

    def monotonic(self) -> float:
        return self.now

    def save(self, path: Path, content: Mapping[str, Any]) -> None:
        save_tensors(path, content)
        self.now += self.seconds
        if content["at"]["step"] == 0:
            self.saved.append(content["at"]["epoch"])

    def validate(self, _: torch.nn.Module) -> Mapping[str, float]:
        return {"padded_cmap": (0.1, 0.2, 0.1, 0.1, 0.3, 0.2, 0.1, 0.1)[self.epoch]}

    def resumed(self, epoch: int) -> None:
        self.epoch = epoch

    def report(self, told: EpochReport) -> None:
        self.now, self.epoch = self.now + 1, told.epoch + 1
        if self.epoch == self.full_after:
            raise OSError("the process is gone")


BY_EPOCH = {"train.validate_every": 1}
SAVED: dict[str, tuple[float, dict[str, Any], list[int]]] = {
    "quick": (0.05, {}, [1, 2, 3, 4, 5, 6, 7, 8]),
    "costly": (0.25, {}, [1, 4, 7, 8]),
    "average": (5.0, {"train.average": {"k": 3}}, [1, 6, 7, 8]),
    "best": (5.0, {"train.checkpoint": "best", **BY_EPOCH}, [1, 2, 5, 8]),
    "early stop": (5.0, {"train.early_stop": 2, **BY_EPOCH}, [4]),
}


@pytest.mark.parametrize("option", SAVED)
def test_checkpoints_take_a_tenth_of_the_time_but_where_they_are_needed(
    source: ClipSource, tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And training that was killed since the last one goes on from it to the same bits."""
    seconds, changes, expected = SAVED[option]
    spec = build_spec(parse_yaml(TINY_SPEC, "x"), changes).train
    source = replace(source, crop_samples=RATE // 2)

    def trained(disk: Disk, folder: str) -> Trained:
        monkeypatch.setattr(checkpoint, "time", disk)
        monkeypatch.setattr(checkpoint, "save_tensors", disk.save)
        given = {"validate": disk.validate, "report": disk.report, "resumed": disk.resumed}
        options = {"steps": Steps(8, 1, 2), "workers": 0, "checkpoint": tmp_path / folder}
        return train(source, {"augment": [], **changes}, **given, **options)

    disk = Disk(seconds)
    undisturbed = trained(disk, "one")
    assert disk.saved == expected
    disk.full_after, disk.epoch = 3, 0
    with pytest.raises(OSError, match="gone"):
        trained(disk, "two")
    at = checkpoint.load_tensors(tmp_path / "two" / CHECKPOINT)["at"]
    assert at["epoch"] == max([0, *(epoch for epoch in expected if epoch <= 3)])
    for epoch in wanted_epochs(spec, at["scores"], at["epoch"], 8):
        assert (tmp_path / "two" / f"epoch-{epoch}.pt").is_file()
    disk.full_after = 99
    assert same(trained(disk, "two").state, undisturbed.state)


@pytest.mark.parametrize("content", [[1], {}, {"made_by": 1, "at": {"epoc": 1}, "random": 2}])
def test_checkpoints_that_are_none_are_named(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / CHECKPOINT)
    with pytest.raises(CellError, match="cannot be read"):
        checkpoint.Checkpoints(tmp_path, torch.device("cpu")).load()


def test_ctrl_c_saves_what_no_checkpoint_was_worth(
    source: ClipSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an epoch is told, within one and while it is scored."""
    monkeypatch.setattr(checkpoint, "SAVE_SHARE", 0.0)

    def stop(epoch: int) -> None:
        if epoch == 1:
            signal.raise_signal(signal.SIGINT)

    def validate(_: torch.nn.Module) -> Mapping[str, float]:
        stop(len(validated))
        validated.append(0)
        return {"padded_cmap": 0.1}

    for place in ("told", "scored", "within"):
        validated: list[int] = []
        given: dict[str, Any] = {"validate": validate} if place == "scored" else {}
        if place == "told":
            given["report"] = lambda told: stop(told.epoch)
        if place == "within":
            steps_done: list[int] = []

            def seen(_: Any, steps_done: list[int] = steps_done) -> None:
                steps_done.append(0)
                stop(len(steps_done) - 2)

            given["hook"] = seen
        with pytest.raises(KeyboardInterrupt):
            train(source, BY_EPOCH, checkpoint=tmp_path / place, steps=Steps(8, 2, 2), **given)
        at = checkpoint.load_tensors(tmp_path / place / CHECKPOINT)["at"]
        expected = {"told": (2, 0), "scored": (1, 2), "within": (1, 1)}
        assert (at["epoch"], at["step"]) == expected[place]


def test_a_checkpoint_that_is_damaged_or_of_another_torch_is_refused(
    source: ClipSource, tmp_path: Path
) -> None:
    train(source, checkpoint=tmp_path)
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    content = checkpoint.load_tensors(path)
    content["made_by"]["torch"] = "1.0"
    checkpoint.save_tensors(path, content)
    with pytest.raises(CellError, match="another torch"):
        train(source, checkpoint=tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CellError, match="cannot be read"):
        train(source, checkpoint=tmp_path)

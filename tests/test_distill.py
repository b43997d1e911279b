"""Teachers: what they hear and say, what is kept of it, and what a student learns from it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from clips import CPU
from safetensors.torch import load_file
from scipy import special
from teacherfiles import logits_of, save_teacher

from birdlab.cellfiles import WEIGHTS
from birdlab.cli.plans import describe_plan
from birdlab.data.store import WaveStore
from birdlab.errors import DataError, LabError, SpecError
from birdlab.evaluate.windows import Floats, peak_normalise
from birdlab.heardrecording import Target, logit
from birdlab.heardstore import heard_folders
from birdlab.hearing import grid_starts, hear
from birdlab.infer.card import ModelCard
from birdlab.jobwriter import save_job
from birdlab.lab import Lab, open_lab
from birdlab.labfile import LabFile
from birdlab.lessons import CellTeacher, hear_lessons, load_lessons
from birdlab.onnxteacher import OnnxTeacher
from birdlab.plan import plan_experiment
from birdlab.run import make_ready, run_experiment
from birdlab.sed.augment import augment_wave
from birdlab.sed.augment.mixing import draw_blend
from birdlab.sed.distill import Pupil, cosine_distance, divergence
from birdlab.sed.draws import EpochDraws
from birdlab.sed.lessons import Lessons
from birdlab.sed.loader import ClipSource, read_batch
from birdlab.sed.takes import locate_takes
from birdlab.sed.targets import Targets
from birdlab.spec import ExperimentSpec, load_spec
from birdlab.spec.augmentations import Mixup, OrMixup
from birdlab.spec.teaching import DistillSpec, TeacherFile
from birdlab.tasks import Event
from birdlab.teachers import open_teacher
from birdlab.upkeep.doctor import examine_lab
from birdlab.upkeep.garbage import find_garbage

RATE = 200
LENGTHS = (500, 120, 64, 40)
"""Of the recordings of a small store; a window of the teacher has 64 samples."""
WINDOW_S = 0.32
NOTHING = np.zeros(0, np.int32)
TARGETS: tuple[Target, Target] = ("logits", "embeddings")


def teacher_lab(folder: Path, **entry: Any) -> tuple[Lab, list[str], list[Path]]:
    """A lab with four recordings of noise and a teacher called `t`; their keys and files."""
    folder.mkdir(exist_ok=True)
    (folder / "codes.txt").write_text("a\nb\nc\n")
    if "path" not in entry:
        save_teacher(folder / "t.onnx", 64)
    given = {
        "path": "t.onnx",
        "classes": "codes.txt",
        "window_s": WINDOW_S,
        "sample_rate_hz": RATE,
        "output": "scores",
        **entry,
    }
    lab = Lab(folder, LabFile.model_validate({"teachers": {"t": given}, "cores": 1}))
    store = WaveStore(lab.waves, RATE)
    rng = np.random.default_rng(0)
    keys, paths = [], []
    for i, n in enumerate(LENGTHS):
        path = folder / f"{i}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.2, n), RATE, subtype="FLOAT")
        keys.append(store.key(str(i)))
        paths.append(path)
    assert store.build(list(zip(keys, paths, strict=True))) == []
    return lab, keys, paths


class Counting:
    """A teacher that counts the windows it heard."""

    def __init__(self, teacher: OnnxTeacher) -> None:
        self.teacher, self.heard, self.most = teacher, 0, 10**9

    def __getattr__(self, name: str) -> Any:
        return getattr(self.teacher, name)

    def output(self, waves: Floats, target: Target) -> Floats:
        if self.heard >= self.most:
            raise KeyboardInterrupt
        self.heard += len(waves)
        return self.teacher.output(waves, target)


def windows_of(lab: Lab, key: str, starts: Sequence[int], n: int = 64) -> Floats:
    """The windows of a recording, cut by hand: zeros before a short one, each at peak 1."""
    whole = WaveStore(lab.waves, RATE).read_all(key)
    padded = np.concatenate([np.zeros(n, np.float32), whole])
    return np.stack([peak_normalise(padded[start + n : start + 2 * n]) for start in starts])


# ---------------------------------------------------------------- what a teacher hears


def test_windows_start_on_a_grid_and_the_last_ends_with_the_recording() -> None:
    assert grid_starts(500, 64, 100).tolist() == [0, 100, 200, 300, 400, 436]
    assert grid_starts(264, 64, 100).tolist() == [0, 100, 200]
    assert grid_starts(64, 64, 100).tolist() == [0]
    assert grid_starts(40, 64, 100).tolist() == [-24]


def test_outputs_are_those_of_windows_cut_by_hand(tmp_path: Path) -> None:
    lab, keys, _ = teacher_lab(tmp_path / "lab")
    heard = hear(open_teacher(lab, "t"), lab, keys, 0.5, sample_rate_hz=RATE)
    assert heard.codes == ("a", "b", "c")
    for i, key in enumerate(keys):
        expected = 1 / (1 + np.exp(-logits_of(windows_of(lab, key, heard.starts[i].tolist()))))
        assert np.allclose(heard.probs(i), expected, atol=3e-4), "float16 logits"
    assert heard.start_s(0).tolist() == [0, 0.5, 1.0, 1.5, 2.0, 2.18]
    assert heard.start_s(3).tolist() == [0]


def test_a_used_part_is_heard_by_itself(tmp_path: Path) -> None:
    lab, keys, _ = teacher_lab(tmp_path / "lab")
    teacher = open_teacher(lab, "t")
    spans = np.array([[0.5, 1.0], [np.nan, np.nan]])
    heard = hear(teacher, lab, [keys[0], keys[0]], 0.5, sample_rate_hz=RATE, spans_s=spans)
    assert [len(starts) for starts in heard.starts] == [2, 6]
    expected = special.expit(logit(teacher(windows_of(lab, keys[0], [100, 136]))))
    assert np.allclose(heard.probs(0), expected, atol=3e-4)


def test_a_teacher_of_another_rate_hears_the_files_at_its_own(tmp_path: Path) -> None:
    entry = {"path": "fast.onnx", "sample_rate_hz": 2 * RATE}
    (tmp_path / "lab").mkdir()
    save_teacher(tmp_path / "lab" / "fast.onnx", 128)
    lab, keys, paths = teacher_lab(tmp_path / "lab", **entry)
    teacher = Counting(open_teacher(lab, "t"))
    with pytest.raises(DataError, match="the file of a recording is not there"):
        hear(teacher, lab, keys, 0.5, sample_rate_hz=RATE)
    files = dict(zip(keys, paths, strict=True))
    heard = hear(teacher, lab, keys, 0.5, sample_rate_hz=RATE, paths=files)
    assert [len(starts) for starts in heard.starts] == [6, 2, 1, 1] and teacher.heard == 10


# ---------------------------------------------------------------- what is kept


def test_what_was_heard_is_not_heard_again_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birdlab.hearing.PART_WINDOWS", 1)
    lab, keys, _ = teacher_lab(tmp_path / "lab")
    whole = hear(open_teacher(lab, "t"), lab, keys, 0.5, sample_rate_hz=RATE)
    other, _, _ = teacher_lab(tmp_path / "other")
    killed = Counting(open_teacher(other, "t"))
    killed.most = 6
    with pytest.raises(KeyboardInterrupt):
        hear(killed, other, keys, 0.5, sample_rate_hz=RATE)
    again = Counting(open_teacher(other, "t"))
    told: list[tuple[str, int, int]] = []
    got = hear(again, other, keys, 0.5, lambda *a: told.append(a), sample_rate_hz=RATE)
    assert again.heard == 4, "the recording that was complete is not heard again"
    assert told[0][1:] == (0, 4)
    assert told[-1][1:] == (4, 4)
    for one, two in zip(whole.outputs, got.outputs, strict=True):
        assert np.array_equal(one, two)
    third = Counting(open_teacher(other, "t"))
    hear(third, other, keys[::-1], 0.5, sample_rate_hz=RATE)
    assert third.heard == 0
    hear(third, other, keys, 0.4, sample_rate_hz=RATE)
    assert third.heard > 0, "another grid is another hearing"


def test_a_store_that_is_cut_off_is_told(tmp_path: Path) -> None:
    lab, keys, _ = teacher_lab(tmp_path / "lab")
    teacher = open_teacher(lab, "t")
    hear(teacher, lab, keys, 0.5, sample_rate_hz=RATE)
    (array,) = (lab.stores / "teachers").glob("*/*.npy")
    array.write_bytes(array.read_bytes()[:-20])
    with pytest.raises(DataError, match="do not hold what they must"):
        hear(teacher, lab, keys, 0.5, sample_rate_hz=RATE)


# ---------------------------------------------------------------- files and their descriptions


def test_logits_one_window_at_a_time_and_embeddings(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    save_teacher(folder / "l.onnx", 64, kind="logits", batch=1)
    lab, keys, _ = teacher_lab(folder, path="l.onnx", kind="logits", embedding="pooled")
    teacher = open_teacher(lab, "t")
    waves = windows_of(lab, keys[0], [0, 100])
    assert np.allclose(teacher.output(waves, "logits"), logits_of(waves), atol=1e-5)
    heard = hear(teacher, lab, keys, 0.5, sample_rate_hz=RATE, target="embeddings")
    lengths = np.linalg.norm(heard.outputs[0].astype(np.float32), axis=1)
    assert np.allclose(lengths, 1, atol=1e-3)


def test_a_promoted_file_says_all_of_itself_and_may_give_several_windows_a_pass(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    card = ModelCard(("x", "y", "z"), RATE, WINDOW_S, normalise="recording")
    long = replace(card, context_s=3 * WINDOW_S, windows_per_pass=3)
    for name, one in (("one", card), ("three", long)):
        save_teacher(folder / f"{name}.onnx", 64, card=one)
    (folder / "mlruns" / "models" / "m").mkdir(parents=True)
    shutil.copy(folder / "one.onnx", folder / "mlruns" / "models" / "m" / "model.onnx")
    lab, keys, _ = teacher_lab(folder)
    entries = {name: TeacherFile(path=f"{name}.onnx") for name in ("one", "three")}
    lab = replace(lab, file=lab.file.model_copy(update={"teachers": entries}))
    one, three = (open_teacher(lab, name) for name in entries)
    assert one.codes == ("x", "y", "z")
    assert open_teacher(lab, "m").identity == one.identity != three.identity
    heard = [hear(t, lab, keys, 0.4, sample_rate_hz=RATE) for t in (one, three)]
    for a, b in zip(*(h.outputs for h in heard), strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(heard[0].outputs[0][0], heard[0].outputs[0][1])


def test_a_label_map_renames_joins_and_leaves_out(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "map.csv").write_text("from,to\na,x\nb,\nc,x\n")
    lab, keys, _ = teacher_lab(folder, labels="map.csv")
    teacher, plain = open_teacher(lab, "t"), teacher_lab(tmp_path / "plain")[0]
    assert teacher.codes == ("x",)
    assert teacher.identity != open_teacher(plain, "t").identity
    waves = windows_of(lab, keys[0], [0, 100])
    assert np.array_equal(teacher(waves)[:, 0], open_teacher(plain, "t")(waves)[:, [0, 2]].max(1))
    assert teacher.mapped(("q", "x")).tolist() == [-1, 0]
    with pytest.raises(DataError, match="knows none of the classes"):
        teacher.mapped(("q", "r"))
    (folder / "map.csv").write_text("from,to\na,x\n")
    with pytest.raises(DataError, match="2 classes of a teacher are not in its label map"):
        open_teacher(lab, "t")


@pytest.mark.parametrize(
    ("entry", "kind", "words"),
    [
        ({"window_s": 1.0}, DataError, "its input"),
        ({"output": "nothing"}, DataError, "one of scores, pooled"),
        ({"embedding": "nothing"}, DataError, "one of scores, pooled"),
        ({"output": "pooled"}, DataError, "2 columns"),
        ({"window_s": None}, LabError, "window_s and sample_rate_hz"),
        ({"path": "gone.onnx"}, LabError, "gone.onnx"),
        ({"classes": "gone.txt"}, LabError, "gone.txt"),
    ],
)
def test_a_file_that_is_not_what_is_said_of_it(
    tmp_path: Path, entry: dict[str, Any], kind: type[Exception], words: str
) -> None:
    lab, _, _ = teacher_lab(tmp_path / "lab", **entry)
    with pytest.raises(kind, match=words):
        open_teacher(lab, "t")


def test_unknown_teachers_and_outputs_that_are_no_probabilities(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    save_teacher(folder / "l.onnx", 64, kind="logits")
    lab, keys, _ = teacher_lab(folder, path="l.onnx")
    with pytest.raises(LabError, match="knows no teacher 'nobody'"):
        open_teacher(lab, "nobody")
    with pytest.raises(DataError, match="holds no probabilities"):
        hear(open_teacher(lab, "t"), lab, keys, 0.5, sample_rate_hz=RATE)


# ---------------------------------------------------------------- what is said of a clip


def source_of(
    lab: Lab, keys: list[str], teacher: OnnxTeacher, crop: int, target: Target = "logits"
) -> ClipSource:
    """Clips of the four recordings with what a teacher says of them: it knows a and c of a to d."""
    store = WaveStore(lab.waves, RATE)
    takes = locate_takes(store, np.array(keys, "S32"), np.full((4, 2), np.nan))
    targets = Targets(np.array([0, 1, 2, 3], np.int32), np.zeros(5, np.int64), NOTHING, 4)
    heard = hear(teacher, lab, keys, 0.4, sample_rate_hz=RATE, target=target)
    columns = np.array([0, -1, 2, -1]) if target == "logits" else None
    lessons = Lessons(target, np.arange(4), heard.starts, (heard.outputs,), columns, 64, crop)
    return ClipSource(store, takes, targets, {}, crop, lessons=lessons)


def test_the_teacher_heard_the_very_samples_of_a_clip(tmp_path: Path) -> None:
    lab, keys, _ = teacher_lab(tmp_path / "lab")
    teacher = open_teacher(lab, "t")
    source = source_of(lab, keys, teacher, 64)
    rows, draws = np.arange(40) % 4, EpochDraws(0, 0, 0)
    batch = read_batch(source, (), draws, np.arange(40), rows).to(CPU).settle()
    assert batch.taught is not None
    taught = batch.taught.numpy()
    assert np.isnan(taught[:, [1, 3]]).all(), "classes that the teacher does not know"
    expected = teacher(batch.wave.numpy())
    assert np.allclose(taught[:, [0, 2]], expected[:, [0, 2]], atol=3e-4)
    assert len(np.unique(taught[rows == 0, 0])) > 3, "clips of one recording differ"


def test_a_clip_that_is_no_window_gets_the_largest_of_those_whose_middle_lies_in_it() -> None:
    logits = np.array([[0.0, 1], [2, -1], [-3, 4], [9, 9]], np.float16)
    starts = (np.array([0, 80, 160, 200]),)
    lessons = Lessons(
        "logits", np.zeros(1, np.int64), starts, ((logits,),), np.array([1, 0]), 64, 100
    )
    assert not lessons.on_grid
    for start, said, where in (
        (30, [1, 2], "middles 32, 112"),
        (100, [4, 2], "112 and 192"),
        (400, [9, 9], "the nearest"),
    ):
        assert np.allclose(lessons.said(0, start), special.expit(said)), where
    sure = replace(lessons, outputs=((np.full((4, 2), -1000, np.float16),),))
    assert sure.said(0, 0).tolist() == [0, 0], "however sure a teacher is, nothing overflows"
    two = replace(lessons, outputs=((logits,), (-logits,)))
    assert np.allclose(two.said(0, 0), 0.5), "the mean of the probabilities of two teachers"
    side = replace(two, target="embeddings", columns=None)
    assert side.n_values == 4
    assert np.allclose(side.said(0, 30), [1, 0, -1, 0]), "embeddings side by side, each a mean"


def test_what_is_said_of_mixtures_is_joined_as_labels_are(tmp_path: Path) -> None:
    lab, keys, _ = teacher_lab(tmp_path / "lab", embedding="pooled")
    teacher, draws, at = open_teacher(lab, "t"), EpochDraws(0, 0, 0), np.arange(30)
    plain: dict[Target, Any] = {}
    for target in TARGETS:
        source = source_of(lab, keys, teacher, 64, target)
        for spec in (OrMixup(name="m", p=0.5), Mixup(name="m", p=0.5, labels="soft")):
            before = read_batch(source, (spec,), draws, at, at % 4).to(CPU)
            assert before.taught is not None
            plain[target] = own = before.taught.clone()
            got = before.fetched["m"]
            after = augment_wave((spec,), before, draws, at).taught
            assert after is not None
            index, other = got["index"], torch.from_numpy(got["taught"])
            if isinstance(spec, OrMixup):
                joined = own[index] + other
                expected = joined.clamp(0, 1) if target == "logits" else joined / 2
            else:
                theirs = 1 - draw_blend(spec, before, draws.at(at, "m"))["own_share"][index]
                share = torch.from_numpy(theirs.astype(np.float32))[:, None]
                expected = own[index] * (1 - share) + other * share
            assert torch.allclose(after[index], expected, atol=1e-6, equal_nan=True)
            alone = np.setdiff1d(at, index)
            assert torch.equal(after[alone].nan_to_num(), own[alone].nan_to_num())
    assert plain["embeddings"].shape == (30, 2)


# ---------------------------------------------------------------- losses


def test_the_divergence_and_its_gradient_are_those_of_a_hand_computation() -> None:
    logits = torch.tensor([[0.3, -2.0, 1.0], [4.0, 0.0, -1.0]], requires_grad=True)
    said = torch.tensor([[0.9, 0.2, float("nan")], [0.5, float("nan"), 0.001]])
    for temperature in (1.0, 3.0):
        logits.grad = None
        loss = divergence(logits, said, temperature)
        loss.backward()  # type: ignore[no-untyped-call]
        z, t = logits.detach().double().numpy(), said.double().numpy()
        p = 1 / (1 + np.exp(-np.log(t / (1 - t)) / temperature))
        q = 1 / (1 + np.exp(-z / temperature))
        terms = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        assert float(loss.detach()) == pytest.approx(temperature**2 * np.nanmean(terms), rel=1e-5)
        slope = np.nan_to_num(temperature * (q - p) / 4)
        assert logits.grad is not None
        assert np.allclose(logits.grad.numpy(), slope, atol=1e-6)
    same = divergence(torch.logit(torch.tensor([[0.9, 0.2]])), torch.tensor([[0.9, 0.2]]), 2.0)
    assert float(same) == pytest.approx(0, abs=1e-6)
    sure = divergence(torch.tensor([[40.0]], requires_grad=True), torch.tensor([[1.0]]), 1.0)
    assert torch.isfinite(sure)


def test_nothing_said_is_no_loss_and_no_gradient() -> None:
    values = torch.tensor([[1.0, 2.0]], requires_grad=True)
    nothing = torch.full((1, 2), float("nan"))
    for loss in (divergence(values, nothing, 2.0), cosine_distance(values, nothing)):
        assert float(loss.detach()) == 0
        values.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        assert values.grad is not None
        assert torch.equal(values.grad, torch.zeros(1, 2))


def test_the_cosine_distance_is_that_of_a_hand_computation() -> None:
    mapped = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]])
    said = torch.tensor([[0.0, 2.0], [-1.0, 0.0], [float("nan"), 1.0]])
    assert float(cosine_distance(mapped, said)) == pytest.approx((0.2 + 2) / 2)


def test_the_weight_divides_the_loss_and_the_map_learns() -> None:
    spec = DistillSpec(teacher={"model": "t"}, target="embeddings", weight=0.25)
    pupil, again = Pupil(spec, 3, 2, seed=1), Pupil(spec, 3, 2, seed=1)
    assert pupil.map is not None
    assert again.map is not None
    assert torch.equal(pupil.map.weight, again.map.weight)
    features, said = torch.rand(4, 3, 2, 5), torch.rand(4, 2)
    given = pupil.mix(torch.tensor(2.0), None, features, said)  # type: ignore[arg-type]
    mapped = pupil.map(features.mean(dim=(2, 3)))
    assert float(given.detach()) == pytest.approx(
        1.5 + 0.25 * float(cosine_distance(mapped, said).detach())
    )
    given.backward()  # type: ignore[no-untyped-call]
    assert pupil.map.weight.grad is not None
    assert pupil.map.weight.grad.abs().sum() > 0


# ---------------------------------------------------------------- runs

STAGE = {"teacher": "base", "hop_s": 0.5}
MODEL = {"teacher": {"model": "foreign"}, "hop_s": 0.5}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, trained_lab: Path) -> Lab:
    """A lab with the tiny competition, its run, and a foreign teacher of two of its species."""
    root = tmp_path_factory.mktemp("distill") / "lab"
    shutil.copytree(trained_lab, root)
    save_teacher(root / "foreign.onnx", 2 * 32_000, n_classes=3)
    (card,) = list((root / "mlruns" / "cells").glob("*/cell.json"))[:1]
    codes = json.loads(card.read_text())["classes"]
    (root / "codes.txt").write_text("\n".join(["strange", *codes[:2]]))
    with (root / "birdlab.toml").open("a") as file:
        file.write(
            '[teachers]\nforeign = {path = "foreign.onnx", classes = "codes.txt", window_s = 2, '
            'sample_rate_hz = 32000, output = "scores", embedding = "pooled"}\n'
        )
    return open_lab(root)


def taught(lab: Lab, distill: Mapping[str, Any], changes: Mapping[str, Any]) -> ExperimentSpec:
    """The tiny experiment on one fold, with a teacher of its last stage; `base` is the tiny one."""
    student = {"student": {"start": "none", "distill": dict(distill)}}
    given = {"cells.folds": [0], "stages": [{"base": {}}, student]}
    return load_spec(lab.root / "tiny.yaml", {**given, **changes})


def weights_of(lab: Lab, spec: ExperimentSpec, n_trained: int | None = None) -> Any:
    """The weights of the last stage of a run, which trains so many cells."""
    result = run_experiment(spec, lab=lab)
    assert n_trained is None or result.trained == n_trained
    return load_file(lab.cells / result.cells["cell_id"].iloc[0] / WEIGHTS)


def differ(one: Any, two: Any) -> bool:
    return any(not torch.equal(one[name], two[name]) for name in one)


def test_every_field_of_distill_changes_the_weights_and_nothing_is_trained_twice(lab: Lab) -> None:
    plain = run_experiment(load_spec(lab.root / "tiny.yaml", {"cells.folds": [0]}), lab=lab)
    assert plain.trained == 0, "the cell of before"
    without = load_file(lab.cells / plain.cells["cell_id"].iloc[0] / WEIGHTS)
    known = [without, weights_of(lab, taught(lab, STAGE, {}), 1)]
    assert weights_of(lab, taught(lab, STAGE, {}), 0)
    dotted = "stages.student.distill"
    for changes in (
        {f"{dotted}.teacher": {"model": "foreign"}},
        {f"{dotted}.temperature": 3},
        {f"{dotted}.weight": 0.9},
        {f"{dotted}.hop_s": 0.7},
        {f"{dotted}.target": "embeddings"},
    ):
        got = weights_of(lab, taught(lab, STAGE, changes), 1)
        assert all(differ(got, other) for other in known), changes
        known.append(got)
    off = weights_of(lab, taught(lab, STAGE, {dotted: None}), 0)
    assert not differ(off, without), "without a teacher it is the cell of before"


def test_a_run_that_is_killed_goes_on_to_the_same_bits(lab: Lab) -> None:
    changes = {
        "stages.student.distill.target": "embeddings",
        "stages.student.train.length": {"epochs": 2},
        "cells.seeds": [7],
    }
    spec = taught(lab, MODEL, {**changes, "stages.base": "off"})

    def stop(event: Event) -> None:
        if event.kind == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(spec, lab=lab, emit=stop)
    (part,) = lab.cells.glob(".*.part")
    assert "pupil" in torch.load(part / "checkpoint.pt", weights_only=True)
    told: list[str] = []
    result = run_experiment(spec, lab=lab, emit=lambda event: told.append(event.kind))
    assert "resume" in told
    cell = lab.cells / result.cells["cell_id"].iloc[0]
    resumed = load_file(cell / WEIGHTS)
    assert not [name for name in resumed if "map" in name], "the map is no part of the network"
    shutil.rmtree(cell)
    result.record.unlink()
    assert not differ(weights_of(lab, spec, 1), resumed)


def test_a_changed_file_or_description_of_a_teacher_is_another_teacher(lab: Lab) -> None:
    spec = taught(lab, MODEL, {})
    before = plan_experiment(spec, lab)
    save_teacher(lab.root / "foreign.onnx", 2 * 32_000, kind="logits")
    after = plan_experiment(spec, lab)
    save_teacher(lab.root / "foreign.onnx", 2 * 32_000)
    assert before.cells[-1].cell_id != after.cells[-1].cell_id
    assert before.spec_id != after.spec_id
    assert plan_experiment(spec, lab).cells[-1].cell_id == before.cells[-1].cell_id
    renamed = replace(
        lab, file=lab.file.model_copy(update={"teachers": {"x": lab.file.teachers["foreign"]}})
    )
    other = taught(lab, {**MODEL, "teacher": {"model": "x"}}, {})
    assert plan_experiment(other, renamed).cells[-1].cell_id == before.cells[-1].cell_id


def test_a_teacher_that_changes_after_planning_teaches_nothing(lab: Lab, tmp_path: Path) -> None:
    spec = taught(lab, {**MODEL, "hop_s": 0.8}, {"stages.base": "off"})
    plan = plan_experiment(spec, lab)
    job = save_job(plan, plan.final_cells[0], tmp_path)
    hear_lessons(plan, lab, plan.cells)
    before = load_lessons(job, lab)
    save_teacher(lab.root / "foreign.onnx", 2 * 32_000, kind="logits")
    try:
        for again in (lambda: load_lessons(job, lab), lambda: hear_lessons(plan, lab, plan.cells)):
            with pytest.raises(DataError, match="not the one that was planned with"):
                again()
    finally:
        save_teacher(lab.root / "foreign.onnx", 2 * 32_000)
    after = load_lessons(job, lab)
    assert before is not None and after is not None
    assert all(map(np.array_equal, before.outputs[0], after.outputs[0]))


def test_the_driver_lets_a_model_hear_all_rows_before_anything_is_trained(lab: Lab) -> None:
    spec = taught(lab, {**MODEL, "hop_s": 0.9}, {"cells.folds": "all", "stages.base": "off"})
    plan = plan_experiment(spec, lab)
    told: list[tuple[str, int, int]] = []
    make_ready(plan, lab, lambda *given: told.append(given))
    heard = [given for given in told if given[0] == "foreign hears windows"]
    assert heard[0][1] == 0
    assert heard[-1][1] == heard[-1][2] > 24, "every recording has a window"
    told.clear()
    make_ready(plan, lab, lambda *given: told.append(given))
    assert told == []


def test_models_of_all_data_are_taught_by_models_of_all_data(lab: Lab) -> None:
    plan = plan_experiment(taught(lab, STAGE, {"cells.folds": "none"}), lab)
    (teacher,) = plan.cells[-1].distillers
    assert teacher.fold is None
    folds = plan_experiment(taught(lab, STAGE, {"cells.folds": "all"}), lab).cells
    students = [cell for cell in folds if cell.distillers]
    assert [cell.distillers[0].fold for cell in students] == [0, 1]


def test_a_smoke_test_is_taught_by_cells_of_the_lab_and_keeps_nothing_there(
    lab: Lab, tmp_path: Path
) -> None:
    cell_id = next(lab.cells.glob("*/cell.json")).parent.name
    away = replace(lab, cells_folder=tmp_path)
    teacher = CellTeacher(away, cell_id, 2.0)
    waves = np.random.default_rng(0).uniform(-1, 1, (2, 64_000)).astype(np.float32)
    assert teacher.output(waves, "logits").shape == (2, len(teacher.codes))
    assert heard_folders(away).is_relative_to(tmp_path)


def test_a_dry_run_says_who_teaches_what(lab: Lab) -> None:
    spec = taught(lab, {**STAGE, "temperature": 2}, {})
    said = describe_plan(plan_experiment(spec, lab), lab)
    expected = "stage base of the same fold: logits at temperature 2, weight 0.5, heard every 0.5 s"
    assert f"taught      {expected}" in said


def test_a_teacher_that_would_hear_only_parts_is_refused(lab: Lab) -> None:
    with pytest.raises(SpecError, match=r"distill\.hop_s is 2\.5"):
        taught(lab, {**STAGE, "hop_s": 2.5}, {})


def test_what_teachers_said_is_freed_when_nobody_used_it_for_long(lab: Lab) -> None:
    plan = plan_experiment(taught(lab, {**MODEL, "hop_s": 0.8}, {}), lab)
    make_ready(plan, lab, lambda *_: None)
    assert not [item for item in find_garbage(lab) if item.kind == "heard"]
    old = time.time() - 30 * 86_400
    for path in (lab.stores / "teachers").rglob("*"):
        os.utime(path, (old, old))
    found = [item for item in find_garbage(lab) if item.kind == "heard"]
    assert any("logits of foreign every 0.8 s" in item.reason for item in found)
    assert any(
        finding.what == "stores" and "teachers" in finding.said for finding in examine_lab(lab)
    )

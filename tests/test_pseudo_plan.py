"""Pseudo-labels in the plan: who may label what, what is never labelled, and what comes of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import MakeLab
from teacherfiles import save_teacher

from birdlab import softlabels
from birdlab.cellfiles import WEIGHTS, labels_folder
from birdlab.cellorder import find_lacking, sort_seed_major
from birdlab.cli.plans import describe_plan
from birdlab.errors import BirdlabError, CellError, DataError, ResolveError, SpecError
from birdlab.evaluate.outputs import load_outputs
from birdlab.evaluate.windows import blend
from birdlab.heldout import _refuse_labelled
from birdlab.jobwriter import job_folder, save_job
from birdlab.lab import Lab, open_lab
from birdlab.plan import Plan, _unlike, open_dataset, plan_experiment, silent
from birdlab.promote import smoke
from birdlab.recorded import inputs_of, iter_line, load_records, name_remarks
from birdlab.run import build_store, make_ready, run_experiment
from birdlab.softlabels import load_soft_labels, make_labels
from birdlab.soundscapes import SoundscapeSet
from birdlab.spec import ExperimentSpec, load_spec
from birdlab.sweep.backlog import Backlog
from birdlab.tasks import CellTask
from birdlab.teaching import Pupil, SafeTeachers, TeacherModel, TeacherRun

PSEUDO = {"soundscapes": ["hours"], "teacher": "base", "threshold": 0.0, "draw_rate": 0.5}
Changes = Mapping[str, Any]


@pytest.fixture
def lab(make_lab: MakeLab, hours: Path) -> Lab:
    return with_data(make_lab(), hours=hours)


def with_data(lab: Lab, **folders: Path) -> Lab:
    """The lab with further data sets."""
    text = "".join(f'{name.replace("_", "-")} = "{path}"\n' for name, path in folders.items())
    (lab.root / "birdlab.local.toml").write_text(f"[data]\n{text}")
    return open_lab(lab.root)


def with_files(hours: Path, folder: Path, files: Mapping[str, Path], split: str) -> Path:
    """A copy of the unlabelled soundscapes with more files, of one split."""
    shutil.copytree(hours, folder)
    table = pd.read_csv(folder / "soundscapes.csv")
    for name, source in files.items():
        shutil.copy(source, folder / "soundscapes" / name)
        table.loc[len(table)] = [name, split, 10.0]
    table.to_csv(folder / "soundscapes.csv", index=False)
    return folder


def spec_of(
    lab: Lab, pseudo: Changes | None = None, changes: Changes | None = None
) -> ExperimentSpec:
    """A stage, and a second one that learns from what the first says of soundscapes."""
    told = {**PSEUDO, **(pseudo or {})}
    stages = {"stages": [{"base": {}}, {"round1": {"pseudo": told}}]}
    return load_spec(lab.root / "tiny.yaml", {**stages, "augment": [], **(changes or {})})


def plan_of(lab: Lab, pseudo: Changes | None = None, changes: Changes | None = None) -> Plan:
    return plan_experiment(spec_of(lab, pseudo, changes), lab)


def ids(plan: Plan, stage: str) -> list[str]:
    return [cell.cell_id for cell in plan.cells if cell.stage.name == stage]


def fails(lab: Lab, pseudo: Changes, changes: Changes | None = None) -> BirdlabError:
    with pytest.raises(BirdlabError) as raised:
        plan_of(lab, pseudo, changes)
    return raised.value


# ---------------------------------------------------------------- what names a cell


def test_the_document_holds_contents_and_no_names(lab: Lab, hours: Path) -> None:
    lab = with_data(lab, hours=hours, other_hours=hours)
    plan = plan_of(lab)
    assert all("pseudo" not in c.document for c in plan.cells if c.stage.name == "base")
    (one, _) = (c for c in plan.cells if c.stage.name == "round1")
    assert set(one.document["pseudo"]) == {
        *("soundscapes", "teacher", "labels", "threshold", "floor", "power"),
        *("draw", "draw_rate", "mix_rate", "mix_ratio"),
    }
    again = plan_of(lab, {"soundscapes": ["other-hours"]})
    twice = plan_of(lab, {"soundscapes": ["other-hours", "hours"]})
    assert ids(again, "round1") == ids(twice, "round1") == ids(plan, "round1")
    renamed = [{"first": {}}, {"second": {"pseudo": {**PSEUDO, "teacher": "first"}}}]
    assert ids(plan_of(lab, changes={"stages": renamed}), "second") == ids(plan, "round1")


@pytest.mark.parametrize(
    ("pseudo", "changes"),
    [
        ({"power": 2.0}, {}),
        ({"draw_rate": 0.25}, {}),
        ({}, {"output": {"clip": 1.0, "time_max": 0.0}}),
        ({}, {"evaluate.context_s": 10.0}),
    ],
)
def test_what_changes_labels_changes_the_pupil_and_not_the_teacher(
    lab: Lab, pseudo: Changes, changes: Changes
) -> None:
    plain, other = plan_of(lab), plan_of(lab, pseudo, changes)
    assert ids(other, "base") == ids(plain, "base")
    assert not set(ids(other, "round1")) & set(ids(plain, "round1"))


def test_other_soundscapes_are_another_experiment(lab: Lab, hours: Path, tmp_path: Path) -> None:
    plain = plan_of(lab)
    fewer = tmp_path / "hours"
    shutil.copytree(hours, fewer)
    table = pd.read_csv(fewer / "soundscapes.csv")
    table.iloc[1:].to_csv(fewer / "soundscapes.csv", index=False)
    other = plan_of(with_data(lab, hours=fewer))
    assert other.spec_id != plain.spec_id and ids(other, "base") == ids(plain, "base")
    assert not set(ids(other, "round1")) & set(ids(plain, "round1"))


def test_a_pupil_waits_for_the_teacher_of_its_fold_and_seed(lab: Lab) -> None:
    plan = plan_of(lab, changes={"cells.seeds": [0, 3]})
    assert [c.title.split(",")[0] for c in plan.cells] == ["base", "round1"] * 4
    for cell in plan.final_cells:
        (teacher,) = cell.labellers
        assert (teacher.fold, teacher.seed) == (cell.fold, cell.seed)
        assert cell.inputs == (teacher,) and cell.line == (teacher, cell)
    whole = plan_of(lab, changes={"cells.folds": "none"})
    assert [c.fold for c in whole.cells] == [None, None] and whole.cells[1].labelling is not None


def test_stages_of_stages_teach_in_order(lab: Lab) -> None:
    rounds = [{"base": {}}, {"r1": {"pseudo": PSEUDO}}, {"r2": {"start": "base", "pseudo": None}}]
    rounds[2] = {"r2": {"start": "base", "pseudo": {**PSEUDO, "teacher": "r1"}}}
    plan = plan_of(lab, changes={"stages": rounds, "cells.folds": [1]})
    base, first, second = plan.cells
    assert second.inputs == (base, first) and second.line == (base, first, second)
    with pytest.raises(SpecError, match="not an earlier stage; earlier stages: base"):
        spec_of(lab, {"teacher": "round1"})


# ---------------------------------------------------------------- what is never labelled


@pytest.mark.parametrize(
    ("name", "split", "found"),
    [
        ("renamed.ogg", "public", "renamed.ogg is the sound of tiny/demo_1014.ogg (public)"),
        ("DEMO_1014.wav", "public", "DEMO_1014.wav is called like tiny/demo_1014.ogg (public)"),
        ("renamed.ogg", "private", "is the sound of tiny/"),
    ],
)
def test_soundscapes_of_a_leaderboard_are_refused(
    lab: Lab, hours: Path, tiny_demo: Path, tmp_path: Path, name: str, split: str, found: str
) -> None:
    listed = pd.read_csv(tiny_demo / "soundscapes.csv")
    board = listed["filename"][listed["split"] == split].iloc[0]
    source = tiny_demo / "soundscapes" / board
    if name.endswith(".wav"):  # other sound, the same name
        source = next((tiny_demo / "background").glob("*.ogg"))
    spied = with_files(hours, tmp_path / "spied", {name: source}, "unlabelled")
    error = fails(with_data(lab, hours=spied), {})
    assert isinstance(error, DataError) and "1 soundscapes to label are scored" in error.what
    assert found in str(error.got) and "pseudo.soundscapes: hours" in str(error.where)


def test_soundscapes_that_judge_models_are_refused(lab: Lab, hours: Path, tmp_path: Path) -> None:
    first = sorted((hours / "soundscapes").glob("*.ogg"))[0]
    judges = lab.root / "judges"
    judges.mkdir()
    shutil.copy(first, judges / "judge.ogg")
    species = plan_of(lab).data.classes.codes[0]
    (judges / "labels.csv").write_text(f"filename,start_s,end_s,label\njudge.ogg,1,4,{species}\n")
    (lab.root / "birdlab.local.toml").write_text(
        f'[data]\nhours = "{hours}"\n[data.judges]\nkind = "soundscapes"\npath = "judges"\n'
        'annotations = "labels.csv"\nsplit = "train"\n'
    )
    lab, judged = open_lab(lab.root), {"evaluate.soundscapes": ["judges"]}
    for folds in ("all", "none"):
        error = fails(lab, {}, {**judged, "cells.folds": folds})
        assert "judges/judge.ogg (a validator)" in str(error.got)
    assert fails(lab, {}, {"data.soundscapes": ["tiny"], **judged}).what == error.what
    hint = fails(lab, {"soundscapes": ["judges"]})
    assert "no unlabelled soundscapes" in hint.what and "data.extra" in str(hint.fix)
    listed = pd.read_csv(lab.dataset_root("abroad") / "soundscapes.csv")
    (spare,) = listed["filename"][listed["split"] == "unlabelled"]  # beside those of its boards
    assert plan_of(lab, {"soundscapes": ["abroad"]}).unlabelled["abroad"].names == (
        f"abroad/{spare}",
    )


# ---------------------------------------------------------------- who may label


def trained(lab: Lab, name: str, changes: Changes | None = None) -> None:
    spec = load_spec(lab.root / "tiny.yaml", {"name": name, **(changes or {})})
    run_experiment(spec, lab=lab)


def test_models_of_a_run_label_what_they_held_out(make_lab: MakeLab, hours: Path) -> None:
    lab = with_data(make_lab(trained=True), hours=hours)
    by_run = {"teacher": {"run": "tiny"}}
    plan = plan_of(lab, by_run)
    record = load_records(lab)[0]
    for cell in plan.final_cells:
        (teacher,) = cell.labellers
        assert teacher.fold == cell.fold and cell.labelling is not None
        assert teacher.cell_id in {c["cell_id"] for c in record["cells"]}
    assert [c.stage.name for c in plan.cells] == ["base", "round1"] * 2  # none of the other run
    by_id = plan_of(lab, {"teacher": {"run": record["spec_id"][:6]}})
    assert ids(by_id, "round1") == ids(plan, "round1")
    whole = plan_of(lab, by_run, {"cells.folds": "none"})
    assert len(whole.final_cells[0].labellers) == 2
    assert plan_of(lab, by_run).spec_id != plan_of(lab).spec_id

    moved = {"data.folds": {"kind": "stratified", "n": 3, "seed": 7}}
    error = fails(lab, by_run, moved)
    assert "no model of the run tiny may teach round1 of fold 0" in error.what
    assert "data.accept_leaks: [teacher]" in str(error.fix)
    assert str(error.where) == "stages.round1.pseudo.teacher"
    leaky = plan_of(lab, by_run, {**moved, "data.accept_leaks": ["teacher"]})
    assert all(len(cell.labellers) == 2 for cell in leaky.final_cells)
    with pytest.raises(ResolveError, match="names no run"):
        plan_of(lab, {"teacher": {"run": "nobody"}})
    rate = {
        "model.frontend": {"n_mels": 32, "hop": 2048, "sample_rate_hz": 16_000, "f_max_hz": 8000}
    }
    assert "another sample rate" in fails(lab, by_run, rate).what


def test_the_run_itself_teaches_whatever_is_called_so_later(make_lab: MakeLab, hours: Path) -> None:
    lab = with_data(make_lab(trained=True), hours=hours)
    one = {"stages.base": "off", "cells.folds": [0]}
    plan = plan_of(lab, {"teacher": {"run": "tiny"}}, one)
    (record,) = load_records(lab)
    pinned = plan.spec.stages[-1].pseudo
    assert pinned is not None and pinned.teacher.run == record["spec_id"]
    by_id = plan_of(lab, {"teacher": {"run": record["spec_id"][:6]}}, one)
    assert by_id.spec_id == plan.spec_id and ids(by_id, "round1") == ids(plan, "round1")
    other = {**record, "spec_id": "0123456789ab"}
    (lab.runs / "0123456789ab.json").write_text(json.dumps(other))
    with pytest.raises(ResolveError, match="names 2 runs"):
        plan_of(lab, {"teacher": {"run": "tiny"}}, one)
    assert plan_experiment(plan.spec, lab).spec_id == plan.spec_id

    less = [cell for cell in record["cells"] if cell["fold"] == 0]
    (lab.runs / f"{record['spec_id']}.json").write_text(json.dumps({**record, "cells": less}))
    assert plan_experiment(plan.spec, lab).spec_id != plan.spec_id  # other cells teach

    pupil = Pupil("round1", "where", 0, plan.rows.with_keys().iloc[:0], frozenset(), ())
    run = TeacherRun("tiny", record["spec_id"], plan.cells[0].labellers[0].spec, plan.cells)
    assert SafeTeachers().of_run(run, pupil) == plan.cells
    data = run.spec.data.model_copy(update={"accept_leaks": ("teacher",)})
    leaky = replace(run, spec=run.spec.model_copy(update={"data": data}))
    with pytest.raises(DataError, match="the run tiny may not teach"):
        SafeTeachers().of_run(leaky, pupil)
    assert SafeTeachers().of_run(leaky, replace(pupil, accepted=("teacher",))) == plan.cells


def test_what_a_teacher_learned_from_judges_nobody(lab: Lab) -> None:
    plan = plan_of(lab, changes={"cells.folds": [0]})
    labelled = plan.final_cells[0].labelling
    assert labelled is not None
    judges = SoundscapeSet({}, pd.DataFrame(), ("another", labelled.keys[0]))
    with pytest.raises(DataError, match="1 soundscapes that judge models were labelled"):
        list(_unlike(plan.cells, judges))
    assert tuple(_unlike(plan.cells, replace(judges, keys=("another",)))) == plan.cells


def test_a_run_that_accepts_a_leaky_teacher_says_so() -> None:
    record = {"spec": {"data": {"accept_leaks": ["teacher", "content"]}}}
    said = name_remarks({"a": record})
    assert said[0].startswith("a: its spec accepts a teacher that was trained on rows")
    assert "pretraining shares content with" in said[1] and len(said) == 2
    (alone,) = name_remarks({"a": {"spec": {"data": {"accept_leaks": ["teacher"]}}}})
    assert "pretraining" not in alone


def test_what_is_in_training_is_labelled_by_who_held_it_out(
    make_lab: MakeLab, hours: Path, tiny_demo: Path, tmp_path: Path
) -> None:
    lab = make_lab(trained=True)
    rows = plan_experiment(load_spec(lab.root / "tiny.yaml"), lab).rows
    held = rows.table.index[rows.table["fold"] == 0][0]
    known = with_files(
        hours, tmp_path / "known", {"known.ogg": Path(rows.table["path"][held])}, "unlabelled"
    )
    lab, key = with_data(lab, hours=known), rows.keys[held]
    for cell in plan_of(lab).final_cells:  # in training of one fold, validation of the other
        assert cell.labelling is not None and cell.labelling.left_out == 1
        assert key not in cell.labelling.keys and len(cell.labelling.keys) == 10
    (whole,) = plan_of(lab, {"teacher": {"run": "tiny"}}, {"cells.folds": "none"}).final_cells
    assert whole.labelling is not None and whole.labelling.left_out == 0
    place = whole.labelling.keys.index(str(key))
    may = {t.fold: place in one.files for t, one in zip(
        whole.labellers, whole.labelling.labellers, strict=True
    )}  # fmt: skip
    assert may == {0: True, 1: False}
    (alone,) = plan_of(lab, changes={"cells.folds": "none"}).final_cells
    assert alone.labelling is not None and alone.labelling.left_out == 1
    assert "1 left out" in describe_plan(plan_of(lab), lab)

    far = {"data": "abroad", "pseudo": {**PSEUDO, "teacher": "first"}}  # the same for all folds
    near = {"start": "far", "transfer": "backbone"}
    stages = [{"first": {"data": "abroad"}}, {"far": far}, {"near": near}]
    for folds, n_left_out in (("all", 1), ("none", 0)):
        plan = plan_of(lab, changes={"stages": stages, "cells.folds": folds})
        (one,) = (cell for cell in plan.cells if cell.stage.name == "far")
        assert one.labelling is not None and one.labelling.left_out == n_left_out


def test_a_dry_run_says_who_labels_what(lab: Lab) -> None:
    text = describe_plan(plan_of(lab), lab)
    (line,) = (line for line in text.splitlines() if "pseudo  " in line)
    assert line.split("pseudo", 1)[1].strip() == (
        "50% of draws from 10 unlabelled soundscapes (20 windows), labelled by stage base of the "
        "same fold"
    )


# ---------------------------------------------------------------- training


def test_a_second_run_trains_nothing_and_labels_outlive_weights(lab: Lab) -> None:
    one = {"cells.folds": [0], "train.length": {"steps": 2}, "keep": "final"}
    first = run_experiment(spec_of(lab, None, one), lab=lab)
    assert (first.trained, first.cached) == (2, 0)
    assert run_experiment(spec_of(lab, None, one), lab=lab).trained == 0
    base, pupil = plan_of(lab, None, one).cells
    folder = lab.cells / base.cell_id
    assert not (folder / WEIGHTS).exists() and len(list(folder.glob("labels-*"))) == 1
    assert list(iter_line(lab, pupil.cell_id)) == [pupil.cell_id, base.cell_id]

    softer = plan_of(lab, {"power": 2.0}, one)  # another arm finds the labels: no teacher again
    assert [c.stage.name for c in find_lacking(lab, softer.cells)] == ["round1"]
    assert run_experiment(softer.spec, lab=lab).trained == 1
    assert not (folder / WEIGHTS).exists()

    shutil.rmtree(next(folder.glob("labels-*")))  # without them it is trained again
    harder = plan_of(lab, {"power": 3.0}, one)
    assert [c.stage.name for c in find_lacking(lab, harder.cells)] == ["base", "round1"]
    assert run_experiment(harder.spec, lab=lab).trained == 2


def test_the_mean_of_a_runs_models_labels(
    make_lab: MakeLab, hours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: stopped in the middle, labelling goes on from there, to the same bits."""
    lab = with_data(make_lab(trained=True), hours=hours)
    spec = spec_of(lab, {"teacher": {"run": "tiny"}}, {"cells.folds": "none"})
    plan = plan_experiment(spec, lab)
    assert build_store(lab, plan)
    monkeypatch.setattr(softlabels, "FILES_A_PART", 4)
    with job_folder(lab) as folder:
        job = save_job(plan, plan.final_cells[0], folder)
        assert job.labelling == plan.final_cells[0].labelling
        with pytest.raises(CellError, match="not labelled yet"):
            load_soft_labels(job, lab)
        told: list[tuple[str, int, int]] = []

        def stop(what: str, done: int, total: int) -> None:
            told.append((what, done, total))
            if done == 8:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make_labels(job, lab, stop)
        assert [done for _, done, _ in told] == [4, 8] and "labelling by train, fold" in told[0][0]
        heard = softlabels.predict_waves
        asked: list[int] = []

        def counted(*args: Any) -> Any:
            asked.append(len(args[4]))
            return heard(*args)

        monkeypatch.setattr(softlabels, "predict_waves", counted)
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        make_labels(job, lab)
        assert torch.get_num_threads() == 2  # those of the pupil
        torch.set_num_threads(threads)
        assert asked == [2, 4, 4, 2]  # the rest of the first teacher, all of the second
        labels = load_soft_labels(job, lab)
        folders = [labels_folder(lab, one) for one in job.labelling.labellers]
        parts = [load_outputs(folder).windows for folder in folders]
        output = plan.spec.output
        means = [blend(w.clip_probs, w.time_max, output.clip, output.time_max) for w in parts]
        assert labels is not None and labels.keys == job.labelling.keys
        np.testing.assert_array_equal(labels.probs, (means[0] + means[1]) / 2)
        np.testing.assert_array_equal(labels.start_s, [0, 5] * 10)
        np.testing.assert_array_equal(labels.file, np.repeat(np.arange(10), 2))
        for folder in folders:
            shutil.rmtree(folder)
        make_labels(job, lab)
        again = load_soft_labels(job, lab)
        assert again is not None and again.probs.tobytes() == labels.probs.tobytes()
        assert not list(lab.cells.glob("*/.labels-*"))


def test_a_teacher_whose_weights_are_gone_is_told_before_training(
    make_lab: MakeLab, hours: Path
) -> None:
    lab = with_data(make_lab(trained=True), hours=hours)
    for path in lab.cells.glob(f"*/{WEIGHTS}"):
        path.unlink()
    with pytest.raises(CellError, match="of 1 cells that are to teach are not in the lab") as gone:
        run_experiment(spec_of(lab, {"teacher": {"run": "tiny"}}, {"cells.folds": [0]}), lab=lab)
    assert "birdlab rerun RUN --keep all" in str(gone.value.fix)


def test_a_file_labels_too_and_ours_only_what_it_did_not_hear(
    make_lab: MakeLab, hours: Path
) -> None:
    lab = make_lab(trained=True)
    save_teacher(lab.root / "foreign.onnx", 2 * 32_000, n_classes=3)
    codes = plan_experiment(load_spec(lab.root / "tiny.yaml"), lab).data.classes.codes[:2]
    (lab.root / "codes.txt").write_text("\n".join(["strange", *codes]))
    with (lab.root / "birdlab.toml").open("a") as file:
        file.write(
            '[teachers]\nforeign = {path = "foreign.onnx", classes = "codes.txt", window_s = 2, '
            'sample_rate_hz = 32000, output = "scores"}\n'
        )
    lab = with_data(lab, hours=hours)
    one = {"cells.folds": [0], "stages.base": "off"}
    plan = plan_of(lab, {"teacher": {"model": "foreign"}}, one)
    (cell,) = plan.cells
    assert "teacher foreign: not known which recordings it was trained on" in plan.notes
    assert cell.inputs == () and cell.labelling is not None and cell.labelling.model == "foreign"
    plan = make_ready(plan, lab, silent)
    with job_folder(lab) as folder:
        labels = load_soft_labels(save_job(plan, plan.cells[0], folder), lab)
    assert labels is not None and labels.codes == ("strange", *codes)
    assert labels.teacher == cell.labelling.teacher and len(labels) == 10 * 5
    np.testing.assert_array_equal(labels.end_s[:5], [2, 4, 6, 8, 10])

    table = plan.rows.with_keys()
    held = table[table["fold"] == 0]
    pupil = Pupil("round1 of fold 0", "stages.round1.pseudo.teacher", 0, held, frozenset(), ())
    ours = TeacherModel("@champion", "x", (plan.rows,), is_foreign=False)
    with pytest.raises(DataError, match="the model @champion may not teach round1") as refused:
        SafeTeachers().refuse_model(ours, pupil)
    assert "rows" in str(refused.value.got)
    with pytest.raises(DataError, match="may not teach"):
        SafeTeachers().refuse_model(replace(ours, heard=None), pupil)
    SafeTeachers().refuse_model(ours, replace(pupil, accepted=("teacher",)))
    SafeTeachers().refuse_model(ours, replace(pupil, held=None))
    abroad = plan_experiment(load_spec(lab.root / "tiny.yaml", {"data.base": "abroad"}), lab)
    SafeTeachers().refuse_model(replace(ours, heard=(abroad.rows,)), pupil)


@pytest.mark.parametrize(
    "teacher",
    [pytest.param("base", marks=pytest.mark.slow), pytest.param({"run": "tiny"}, id="run")],
)
def test_a_smoke_test_labels_some_soundscapes(
    make_lab: MakeLab, hours: Path, teacher: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "N_LABELLED", 2)
    lab = with_data(make_lab(trained=True), hours=hours)
    told = {"teacher": teacher, "threshold": 0.99, "floor": 0.9}
    one = {"cells.folds": [0], "stages.base": {} if teacher == "base" else "off"}
    report = smoke.smoke_test(spec_of(lab, told, one), lab, 1)
    assert report.steps == 1 and report.parity < 1e-3
    assert not list(lab.cells.glob("*/labels-*"))


def test_without_a_round_the_next_learns_from_its_teacher(lab: Lab) -> None:
    second = {"pseudo": {**PSEUDO, "teacher": "round1"}, "start": "round1"}
    rounds = [{"base": {}}, {"round1": {"pseudo": PSEUDO, "start": "base"}}, {"round2": second}]
    spec = spec_of(lab, changes={"stages": rounds, "stages.round1": "off"})
    (base, last) = spec.stages
    assert last.pseudo is not None and last.pseudo.teacher.stage == base.name == last.start


def test_soundscapes_that_models_trained_on_score_nothing(
    lab: Lab, hours: Path, tmp_path: Path
) -> None:
    source = sorted((hours / "soundscapes").glob("*.ogg"))[0]
    board = with_files(hours, tmp_path / "board", {"late.ogg": source}, "public")
    lab = with_data(lab, hours=hours, board=board)
    plan = plan_of(lab)
    data = open_dataset(lab, "board")
    scapes = data.soundscapes[data.soundscapes["split"] == "public"].reset_index(drop=True)
    with pytest.raises(DataError, match="1 soundscapes of board were labelled by a teacher"):
        _refuse_labelled(plan, lab, data, scapes)
    _refuse_labelled(plan_experiment(load_spec(lab.root / "tiny.yaml"), lab), lab, data, scapes)


# ---------------------------------------------------------------- order and executors


def task(name: str, *after: str) -> CellTask:
    return CellTask(name, name, after, "job", "lab")


def test_a_task_waits_for_all_that_it_is_made_from() -> None:
    tasks = [task("a"), task("b"), task("ab", "a", "b"), task("gone", "elsewhere")]
    backlog = Backlog(tasks, lambda _: None, lambda _: True)
    assert [t.cell_id for t in backlog.ready()] == ["a", "b", "gone"]
    for one in ("a", "b"):
        backlog.begun(next(t for t in tasks if t.cell_id == one))
    assert [t.cell_id for t in backlog.ready()] == ["gone"]
    backlog._settle(tasks[0], None)
    assert [t.cell_id for t in backlog.ready()] == ["gone"]
    backlog._settle(tasks[1], CellError("no"))
    assert [t.cell_id for t in backlog.ready()] == ["gone"] and set(backlog.failed) == {"b", "ab"}


def test_inputs_of_later_seeds_are_finished_first(lab: Lab) -> None:
    soup = {"soup": {"of": "base", "n": 2}}
    stages = [{"warm": {"seeds": "shared"}}, {"base": {"start": "warm"}}, {"soup": soup}]
    plan = plan_of(lab, changes={"stages": stages, "cells.folds": [0], "cells.seeds": [0, 1]})
    assert [(c.stage.name, c.seed) for c in plan.cells] == [
        *(("warm", 0), ("base", 0), ("base", 1), ("soup", 0)),
        *(("base", 2), ("base", 3), ("soup", 1)),
    ]
    assert [c.seed for c in plan.final_cells[1].sources] == [2, 3]
    ordered = sort_seed_major({c.cell_id: (plan, c) for c in reversed(plan.cells)})
    done: set[str] = set()
    for _, cell in ordered:
        assert {one.cell_id for one in cell.inputs} <= done
        done.add(cell.cell_id)


def test_old_cards_have_a_start_alone() -> None:
    assert inputs_of({"start": None}) == [] and inputs_of({"start": "a"}) == ["a"]
    card = {"start": "a", "teachers": ["b", "a"], "sources": ["c"]}
    assert inputs_of(card) == ["a", "b", "c"]

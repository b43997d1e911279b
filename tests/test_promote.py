"""Promotion: from a trained run to a file that predicts what validation stored."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from birdlab.cellfiles import outputs_folder
from birdlab.cellplan import CellPlan
from birdlab.errors import BirdlabError, PredictError, PromotionError
from birdlab.evaluate.blends import Blend
from birdlab.evaluate.outputs import load_outputs, save_outputs
from birdlab.evaluate.windows import blend
from birdlab.infer.models import (
    PromotedModel,
    find_model,
    find_promoted,
    list_models,
    load_aliases,
)
from birdlab.infer.predict import predict_soundscapes
from birdlab.infer.session import open_predictor
from birdlab.lab import Lab, open_lab
from birdlab.plan import Plan, plan_experiment
from birdlab.promote import machines
from birdlab.promote.case import open_case
from birdlab.promote.champion import NAME as CHAMPION
from birdlab.promote.fullweights import Training, chosen_epochs, plan_full, train_full
from birdlab.promote.gates import AGREEMENT, BATCH, BUDGET, PARITY, REPRODUCED
from birdlab.promote.graphs import Graph, averaged_members, fold_members, name_graph
from birdlab.promote.history import HISTORY_FILE
from birdlab.promote.members import collect_members
from birdlab.promote.promote import Promotion, check_runs, promote_runs
from birdlab.promote.registry import alias_version
from birdlab.promote.reproduce import reproduce_folds
from birdlab.promote.request import PromotionRequest
from birdlab.promote.soups import LINE
from birdlab.promote.verify import verify_model
from birdlab.recorded import load_record
from birdlab.run import run_experiment
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.recipe import Average
from birdlab.study.ensemble_gates import Gate
from birdlab.tasks import Event
from birdlab.tracking.mlflow_sink import MlflowSink
from birdlab.upkeep.garbage import needed_cells

RATE = 8_000
FOLDS = PromotionRequest(weights="folds", force=True, reason="the model of one fold is looked at")
PEEP, NOLOAD = "ignore:The ``noload`` loader strategy", "ignore:.*Any type hint"
pytestmark = [pytest.mark.filterwarnings(PEEP), pytest.mark.filterwarnings(NOLOAD)]


def write_recordings(root: Path) -> None:
    """A competition folder: three species that whistle at their own pitch, four files each."""
    rng, rows = np.random.default_rng(0), []
    for species, hz in (("rook", 400), ("wren", 1200), ("kite", 2600)):
        (root / "train_audio" / species).mkdir(parents=True)
        for i in range(4):
            n = int(RATE * rng.uniform(0.6, 2.4))
            wave = np.sin(2 * np.pi * hz * np.arange(n) / RATE) * 0.5
            wave += 0.1 * rng.standard_normal(n)
            soundfile.write(root / "train_audio" / species / f"{i}.wav", wave, RATE)
            rows.append({"primary_label": species, "filename": f"{species}/{i}.wav"})
    pd.DataFrame(rows).to_csv(root / "train_metadata.csv", index=False)


@dataclass
class Promoted:
    """A lab with a run of two folds, the model of fold 0 promoted."""

    lab: Lab
    spec: ExperimentSpec
    record: dict[str, object]
    promotion: Promotion


@pytest.fixture(scope="module", autouse=True)
def quick_budget() -> Iterator[None]:
    """How long a submission takes is measured in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machines, "SECONDS", 0.2)
        yield


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Promoted:
    root = tmp_path_factory.mktemp("lab")
    write_recordings(root / "peeps")
    (root / "birdlab.toml").write_text('[data]\npeeps = "peeps"\n')
    lab = open_lab(root)
    spec = ExperimentSpec.model_validate_json(json.dumps({
        "competition": {"name": "peeps", "window_s": 1.0, "n_soundscapes": 3,
                        "soundscape_s": 4.0, "cpu_minutes": 1.0},
        "data": {"base": "peeps", "folds": {"kind": "stratified", "n": 2}},
        "model": {"backbone": "test_resnet", "head": {"kind": "sed_attention", "hidden": 16},
                  "frontend": {"kind": "log_mel", "sample_rate_hz": RATE, "n_fft": 512,
                               "hop": 128, "n_mels": 32, "f_max_hz": 4000.0}},
        "train": {"window_s": 1.0, "length": {"steps": 3}, "batch": 4},
                "name": "tiny",
    }))  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with MlflowSink(lab) as sink:
            result = run_experiment(spec, lab=lab, sinks=[sink])
        record = json.loads(result.record.read_text())
        record["spec"]["cells"]["folds"] = [0]  # so that the file is the model of one fold
        return Promoted(lab, spec, record, promote_runs(lab, [record], FOLDS))


def test_the_file_says_what_validation_stored(promoted: Promoted) -> None:
    """From the files on disk through ONNX, against torch through the waveform store."""
    lab = promoted.lab
    cell = plan_experiment(promoted.spec, lab).final_cells[0]
    stored = load_outputs(outputs_folder(lab, cell)).windows
    expected = blend(stored.clip_probs, stored.time_max, 0.75, 0.25)
    audio = lab.root / "peeps" / "train_audio"
    for i, name in enumerate(stored.recordings):
        table = predict_soundscapes(find_model(lab.models), [audio / name]).table
        assert list(table.columns[1:]) == list(stored.codes)
        rows = stored.recording_index == i
        assert list(table["row_id"]) == [f"{Path(name).stem}_{end:g}" for end in stored.end_s[rows]]
        assert np.abs(table.drop(columns="row_id").to_numpy() - expected[rows]).max() < 1e-4
    assert len(stored.recordings) == 6


def test_promotion_is_proven_timed_and_registered(promoted: Promoted) -> None:
    promotion = promoted.promotion
    assert promotion.export.n_members == 1
    assert promotion.parity.largest < 1e-4
    assert promotion.parity.by_case["real"] < 1e-4
    assert 0 < promotion.costs.ms_per_window < 5000
    assert 0 < promotion.costs.predicted_minutes < promotion.costs.needed_minutes
    assert promotion.registered == ("models:/peeps@champion", "1")
    (member,) = open_predictor(promotion.path, threads=1).card.members
    assert member.ms_per_window is not None
    assert 0 < member.ms_per_window < 5000
    (listed,) = list_models(promoted.lab.models)
    assert listed == PromotedModel(promotion.name, (promoted.record["spec_id"],), "peeps/1")
    card = json.loads((promotion.path.parent / "card.json").read_text())
    assert card["spec_ids"] == [promoted.record["spec_id"]]
    assert load_aliases(promoted.lab.models) == dict.fromkeys(
        ("candidate", "champion"), promotion.name
    )
    assert not [p for p in promoted.lab.models.iterdir() if p.name.startswith(".")]


def test_the_members_of_a_run_are_its_final_cells(promoted: Promoted) -> None:
    plan = plan_experiment(promoted.spec, promoted.lab)
    members = collect_members(promoted.lab, plan)
    assert [m.name for m in members] == [c.cell_id for c in plan.final_cells]
    assert all(m.weights.is_file() for m in members)


def test_requests_that_make_no_sense_are_refused(promoted: Promoted) -> None:
    lab, record = promoted.lab, promoted.record
    for arguments, message in (
        (([],), "no run"),
        (([record, record],), "named twice"),
    ):
        with pytest.raises(PromotionError, match=message):
            promote_runs(lab, *arguments)
    with pytest.raises(PromotionError, match="one share per run"):
        promote_runs(lab, [record], replace(FOLDS, shares=(1.0, 2.0)))
    with pytest.raises(PromotionError, match="data changed"):
        promote_runs(lab, [{**record, "spec_id": "0" * 12}])


def test_what_predicts_something_else_is_another_model(promoted: Promoted) -> None:
    """Else a promotion under another alias would replace the file that is in service."""
    names = set()
    steps = ({"kind": "power", "exponent": 2.0}, {"kind": "power", "exponent": 3.0})
    for request in (FOLDS, *(replace(FOLDS, post=(step,)) for step in steps)):
        case = open_case(promoted.lab, [promoted.record], request)
        (models,) = fold_members(case).values()
        graph = Graph(promoted.promotion.export, tuple(models), (1.0,), {"tiny": (0,)})
        names.add(name_graph(case, graph))
    assert promoted.promotion.name in names and len(names) == 3
    other = replace(graph, export=replace(graph.export, sha256="0" * 64))
    case = open_case(promoted.lab, [promoted.record], FOLDS)
    assert name_graph(case, other) != promoted.promotion.name, "another file of the same models"


def test_missing_weights_are_named(promoted: Promoted) -> None:
    lab = promoted.lab
    cell = plan_experiment(promoted.spec, lab).final_cells[0]
    folder, away = lab.cells / cell.cell_id, lab.cells / "away"
    folder.rename(away)
    try:
        with pytest.raises(PromotionError, match="fold 0, seed 0"):
            promote_runs(lab, [promoted.record])
    finally:
        away.rename(folder)


def test_models_are_found_by_alias_name_or_path(promoted: Promoted, tmp_path: Path) -> None:
    models, promotion = promoted.lab.models, promoted.promotion
    assert find_model(models) == find_model(models, promotion.name) == promotion.path
    assert find_model(models, "some/where.onnx") == Path("some/where.onnx")
    for name in ("@absent", "absent", "../models", ""):
        with pytest.raises(PredictError, match="@champion"):
            find_model(models, name)
    (tmp_path / "aliases.json").write_text('{"champion": "../../elsewhere"}')
    with pytest.raises(PredictError, match="not names"):
        find_model(tmp_path)


def test_fold_models_reproduce_what_validation_stored(promoted: Promoted) -> None:
    """From the audio files: by the members of the file, and by fold models exported anew."""
    lab, name = promoted.lab, promoted.promotion.name
    seen: list[tuple[int, int]] = []
    found = verify_model(
        lab, find_promoted(lab.models, name), progress=lambda _, done, of: seen.append((done, of))
    )
    (run,) = found.runs.values()
    assert found.passed and found.anew == () and len(run.cells) == 1
    assert seen == [(i, 6) for i in range(1, 7)]
    anew = reproduce_folds(lab, plan_experiment(promoted.spec, lab), threads=1)
    assert anew.passed and [(c.fold, c.seed) for c in anew.cells] == [(0, 0), (1, 0)]
    assert anew.largest < 1e-4 and anew.n_windows > run.n_windows > 6
    record = load_record(lab, str(promoted.record["spec_id"]))
    assert anew.score_torch == pytest.approx(record["scores"]["cv/padded_cmap"], abs=1e-9)
    assert anew.score_onnx == pytest.approx(anew.score_torch, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["mlflow", "history", "aliases"])
def test_a_promotion_that_fails_at_its_end_leaves_the_champion(
    promoted: Promoted, what: str
) -> None:
    """MLflow is gone when the file is registered, or an alias cannot be moved after that."""
    lab, models = promoted.lab, promoted.lab.models
    before = alias_version(lab, "peeps", "champion")
    away = lab.file.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})
    used = replace(lab, file=away) if what == "mlflow" else lab
    blocked = {"history": models / HISTORY_FILE, "aliases": models / f".aliases.json.{os.getpid()}"}
    kept, shares = models.parent / "kept", replace(FOLDS, blend=Blend("geometric"))
    shutil.copytree(models, kept)
    if what == "history":
        blocked[what].unlink()
        blocked[what].mkdir()
    elif what == "aliases":
        blocked[what].with_name(f"{blocked[what].name}.part").mkdir()
    try:
        with pytest.raises(BirdlabError):
            promote_runs(used, [promoted.record], shares)
        assert load_aliases(models) == load_aliases(kept)
        assert alias_version(lab, "peeps", "champion") == before
        assert verify_model(lab, find_promoted(models, "@champion")).passed
    finally:
        shutil.rmtree(models)
        kept.rename(models)


def test_what_is_no_longer_what_was_promoted_is_told(promoted: Promoted) -> None:
    lab = promoted.lab
    model = find_promoted(lab.models, promoted.promotion.name)
    other = replace(model, card={**model.card, "sha256": "0" * 64})
    assert not verify_model(lab, other).passed
    cell = plan_experiment(promoted.spec, lab).final_cells[0]
    folder = outputs_folder(lab, cell)
    stored, kept = load_outputs(folder), folder.with_name("kept")
    shutil.copytree(folder, kept)
    changed = stored.windows.clip_probs.copy()
    changed[3, 1] = 0.9
    try:
        save_outputs(folder, replace(stored, windows=replace(stored.windows, clip_probs=changed)))
        (run,) = verify_model(lab, model).runs.values()
        recording = stored.windows.recordings[stored.windows.recording_index[3]]
        assert not run.passed and recording in run.cells[0].worst
    finally:
        shutil.rmtree(folder)
        kept.rename(folder)


# ---------------------------------------------------------------- gates and models on all data


@dataclass
class Full:
    """The same run promoted with its models trained on all data, as often as a test asks."""

    promoted: Promoted
    record: dict[str, Any]
    promotion: Promotion
    gates: list[Gate]


def ask(**changes: Any) -> PromotionRequest:
    return replace(PromotionRequest(register=False, alias="whole"), **changes)


@pytest.fixture(scope="module")
def full(promoted: Promoted) -> Full:
    lab = promoted.lab
    record = load_record(lab, str(promoted.record["spec_id"]))
    gates: list[Gate] = []
    request = ask(
        soundscapes=lab.root / "peeps" / "train_audio", force=True, reason="three steps of training"
    )
    promotion = promote_runs(lab, [record], request, judged=gates.extend)
    return Full(promoted, record, promotion, gates)


def test_a_full_data_model_stands_on_its_fold_models(full: Full) -> None:
    lab, found = full.promoted.lab, {gate.name: gate for gate in full.gates}
    states = {name: gate.state for name, gate in found.items()}
    for name in ("all folds are finished", PARITY, BATCH, REPRODUCED, BUDGET):
        assert states.pop(name) == "met", name
    assert states.pop(CHAMPION) == states.pop("CV ranks the leaderboard") == "notice"
    assert states.pop("licences of the training data") == "notice"
    assert "12 unknown" in found["licences of the training data"].number
    assert set(states) == {AGREEMENT, "score range"}
    assert found[AGREEMENT].state == "no evidence", "neither the folder nor its own rows are enough"
    assert "windows of its training recordings (12), 100 are needed" in found[AGREEMENT].number
    (member,) = full.promotion.export.card.members
    assert (member.fold, member.weights, member.run) == (None, "full", full.record["spec_id"])
    card = json.loads((full.promotion.path.parent / "card.json").read_text())
    assert (card["weights"], card["n_members"]) == ("full", 1)
    assert card["score"]["value"] == pytest.approx(full.record["scores"]["cv/padded_cmap"])
    assert (card["score"]["folds"], card["score"]["rows"]) == (2, 12)
    (again,) = card["reproduced"].values()
    assert abs(again["score_torch"] - again["score_onnx"]) < 1e-4
    refused = [g.name for g in full.gates if g.state in ("not met", "no evidence")]
    assert card["forced"] == bool(refused) and card["forced_gates"] == refused
    details = full.promotion.export.card.details
    assert json.loads(details["prior"]) == pytest.approx([1 / 3] * 3)
    assert load_aliases(lab.models)["whole"] == full.promotion.name != full.promoted.promotion.name


def test_the_record_keeps_its_folds_and_names_the_full_cell(full: Full) -> None:
    lab = full.promoted.lab
    now = load_record(lab, full.record["spec_id"])
    kept = ("cells", "scores", "evaluation", "spec", "scored_from")
    assert {key: now[key] for key in kept} == {key: full.record[key] for key in kept}
    (cell,) = now["full"]
    assert cell["fold"] is None and cell["cell_id"] in needed_cells(lab)
    run_experiment(full.promoted.spec, lab=lab)
    assert load_record(lab, now["spec_id"])["full"] == now["full"], "scored again, still there"


def test_a_second_promotion_trains_nothing(full: Full) -> None:
    lab, events = full.promoted.lab, list[Event]()
    planned = plan_full(lab, plan_experiment(full.promoted.spec, lab), "tiny")
    again = train_full(lab, planned, Training(emit=events.append))
    assert [cell.cell_id for cell in again.final_cells] == [
        member.name for member in full.promotion.export.card.members
    ]
    assert not events and planned.lengths == ("train: 3 steps",)


def test_a_gate_that_is_not_met_refuses_before_anything_is_trained(full: Full) -> None:
    lab, gates = full.promoted.lab, list[Gate]()
    before, cells = load_aliases(lab.models), sorted(lab.cells.iterdir())
    files = sorted(lab.models.rglob("*"))
    evaluation = {**full.record["evaluation"], "folds": [0]}
    lacking = {**full.promoted.record, "evaluation": evaluation}
    with pytest.raises(PromotionError, match="refused by") as caught:
        promote_runs(lab, [lacking], ask(alias="strict"), judged=gates.extend)
    assert "all folds are finished: not met (tiny: 1 of 2)" in str(caught.value)
    found = {gate.name: gate for gate in gates}
    folds = found["all folds are finished"]
    assert folds.command == f"birdlab extend {lacking['spec_id']} --folds all"
    assert found[PARITY].state == "met" and found[AGREEMENT].state == "no evidence"
    assert (load_aliases(lab.models), sorted(lab.cells.iterdir())) == (before, cells)
    assert sorted(lab.models.rglob("*")) == files, "no file is left behind"


def test_a_dry_run_says_what_waits(full: Full) -> None:
    found = check_runs(full.promoted.lab, [full.record], ask(alias="dry"))
    waiting = [g.name for g in found.gates if g.state == "no evidence"]
    assert waiting == [PARITY, BATCH, REPRODUCED, BUDGET, AGREEMENT]
    assert all("waits for" in g.number for g in found.gates if g.name in waiting)
    assert found.lengths == {"tiny": ("train: 3 steps",)} and found.told == ()
    assert "dry" not in load_aliases(full.promoted.lab.models)


def test_models_that_start_apart_are_not_averaged_unasked(full: Full) -> None:
    lab = full.promoted.lab
    found = check_runs(lab, [full.record], ask(weights="averaged"))
    (gate,) = [g for g in found.gates if g.name == LINE]
    assert gate.state == "not met" and "tiny" in gate.number and gate.command == "--weights full"


def test_an_averaged_model_has_the_mean_of_the_weights_and_norms_of_its_own(
    full: Full, tmp_path: Path
) -> None:
    case = open_case(full.promoted.lab, [full.record], ask(weights="averaged"))
    (models,), (averaged,) = fold_members(case).values(), averaged_members(case, tmp_path).values()
    (member,) = averaged
    assert (member.learned, member.fold, member.seed) == ("averaged", None, models[0].seed)
    assert models[0].seed == models[1].seed, "what all have in common is said"
    one, other = (load_file(model.weights) for model in models)
    mean = load_file(member.weights)
    halfway = {k: torch.equal(mean[k], ((one[k].double() + other[k]) / 2).float()) for k in mean}
    norms = {name for name in mean if "running" in name}
    assert all(halfway[name] for name in mean.keys() - norms if mean[name].is_floating_point())
    assert not all(halfway[name] for name in norms)


def test_epochs_that_validation_chose_become_the_length(full: Full) -> None:
    """The median of the best epochs; early stop and averages likewise; the last weights count."""
    lab, base = full.promoted.lab, full.promoted.spec.model_dump(mode="json")
    train = base["stages"][0]["train"] | {
        "length": {"epochs": 3}, "validate_every": 1, "checkpoint": "best",
    }  # fmt: skip
    base["stages"] = [base["stages"][0] | {"train": train}]
    spec = ExperimentSpec.model_validate_json(json.dumps(base | {"keep": "all", "name": "chosen"}))
    run_experiment(spec, lab=lab)
    plan = plan_experiment(spec, lab)
    best = []
    for cell in plan.final_cells:
        curves = pd.read_parquet(lab.cells / cell.cell_id / "curves.parquet")
        best.append(int(curves["epoch"][curves["padded_cmap"].idxmax()]) + 1)
    assert chosen_epochs(lab, plan.final_cells) == best
    found = plan_full(lab, plan, "chosen")
    (stage,) = found.spec.stages
    assert stage.train.length.epochs == max(best) == found.plan.final_cells[0].steps.epochs
    assert not stage.train.is_steered and stage.train.validate_every == "last"
    assert found.spec.name == "chosen, all data" and found.plan.spec_id != plan.spec_id
    assert "the median of those that validation chose" in found.lengths[0]
    assert [cell.fold for cell in found.plan.final_cells] == [None]
    early = replace_train(plan, checkpoint="last", early_stop=2)
    assert chosen_epochs(lab, early) == [3, 3]
    averaged = replace_train(plan, checkpoint="last", average=Average(of="best", k=3))
    assert chosen_epochs(lab, averaged) == [2, 2], "the middle of the three that are averaged"


def replace_train(plan: Plan, **changes: Any) -> list[CellPlan]:
    """The cells of a plan as if their recipe had been another one."""
    cells = []
    for cell in plan.final_cells:
        train = cell.stage.train.model_copy(update=changes)
        cells.append(replace(cell, stage=cell.stage.model_copy(update={"train": train})))
    return cells

"""Post-processing and overlapping windows as fields of a spec: scored, swept, promoted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from pydantic import ValidationError

from birdlab.cell import _scores
from birdlab.cellfiles import outputs_folder, soundscapes_folder
from birdlab.errors import OutputsError, PromotionError, SpecError
from birdlab.evaluate.deployed import count_rows, deploy_windows, deployed_probs
from birdlab.evaluate.metrics import padded_cmap
from birdlab.evaluate.outputs import StoredOutputs, load_outputs
from birdlab.evaluate.postprocess import apply_steps
from birdlab.evaluate.predictor import WindowOutputs
from birdlab.evaluate.score import fold_table
from birdlab.evaluate.steps import parse_steps, to_mappings
from birdlab.evaluate.windows import blend, pool_recordings
from birdlab.heldout import score_soundscapes
from birdlab.infer.predict import PredictRequest, predict_to_file
from birdlab.infer.session import OnnxPredictor
from birdlab.jobwriter import save_job
from birdlab.lab import Lab, open_lab
from birdlab.network import load_model, weights_path
from birdlab.plan import Plan, plan_experiment
from birdlab.promote import machines
from birdlab.promote.case import open_case
from birdlab.promote.chains import Chain, settle_chain
from birdlab.promote.promote import promote_runs
from birdlab.promote.request import PromotionRequest
from birdlab.recorded import load_record
from birdlab.run import run_experiment
from birdlab.runresult import RunResult
from birdlab.runtables import load_fold_tables
from birdlab.spec.base import canonical
from birdlab.spec.experiment import ExperimentSpec, load_spec
from birdlab.spec.parts import EvaluateSpec, OutputSpec
from birdlab.spec.sweep import load_sweep
from birdlab.study.post_sources import heard_windows, held_out_windows
from birdlab.study.postprocessing import score_steps
from birdlab.sweep.driver import run_sweep
from birdlab.sweep.dryrun import plan_sweep
from birdlab.tasks import InProcess
from birdlab.tracking.evidence import load_evidence
from birdlab.tracking.index import load_runs
from birdlab.tracking.readback import load_oof

RATE = 8_000
SPECIES = {"kite": 2600, "rook": 400, "wren": 1200}
SMOOTH = ({"smooth": [1, 2, 1]},)
CHAIN = ({"smooth": [1, 2, 1]}, {"file_scale": {"power": 0.5}})


def sing(rng: np.random.Generator, tones: list[str]) -> np.ndarray:
    """A tone of a second for each species, in noise."""
    t = np.arange(RATE) / RATE
    parts = [np.sin(2 * np.pi * SPECIES[tone] * t) * rng.uniform(0.1, 0.6) for tone in tones]
    wave = np.concatenate(parts)
    return np.asarray(wave + 0.05 * rng.standard_normal(len(wave)))


def write_audio(root: Path) -> None:
    """Four recordings of each of three species; soundscapes that may judge, and a board's."""
    rng, rows = np.random.default_rng(0), []
    for species in SPECIES:
        (root / "peeps" / "train_audio" / species).mkdir(parents=True)
        for i in range(4):
            file = f"{species}/{i}.wav"
            wave = sing(rng, [species] * 3)[: int(RATE * rng.uniform(0.6, 2.9))]
            soundfile.write(root / "peeps" / "train_audio" / file, wave, RATE)
            rows.append({"primary_label": species, "filename": file})
    pd.DataFrame(rows).to_csv(root / "peeps" / "train_metadata.csv", index=False)
    for folder in ("scapes", "board"):
        (root / folder).mkdir()
        labels = []
        for i in range(3):
            tones = [str(tone) for tone in rng.choice(list(SPECIES), 6)]
            soundfile.write(root / folder / f"{folder}{i}.wav", sing(rng, tones)[:-500], RATE)
            labels += [(f"{folder}{i}.wav", t, t + 0.9, tone) for t, tone in enumerate(tones)]
        table = pd.DataFrame(labels, columns=["filename", "start_s", "end_s", "label"])
        table.to_csv(root / folder / "labels.csv", index=False)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    root = tmp_path_factory.mktemp("lab")
    write_audio(root)
    described = "".join(
        f'[data.{name}]\nkind = "soundscapes"\npath = "{name}"\n'
        f'annotations = "labels.csv"\nsplit = "{split}"\n'
        for name, split in (("scapes", "train"), ("board", "public"))
    )
    (root / "birdlab.toml").write_text(f'[data]\npeeps = "peeps"\n{described}')
    return open_lab(root)


def spec_of(
    *steps: dict[str, Any], hop_s: float | None = None, **changes: dict[str, Any]
) -> ExperimentSpec:
    raw: dict[str, Any] = {
        "competition": {"name": "peeps", "window_s": 1.0, "n_soundscapes": 3,
                        "soundscape_s": 6.0, "cpu_minutes": 1.0},
        "data": {"base": "peeps", "folds": {"kind": "stratified", "n": 2},
                 "soundscapes": ["board"]},
        "model": {"backbone": "test_resnet", "head": {"kind": "sed_attention", "hidden": 16},
                  "frontend": {"kind": "log_mel", "sample_rate_hz": RATE, "n_fft": 512,
                               "hop": 128, "n_mels": 32, "f_max_hz": 4000.0}},
        "train": {"window_s": 1.0, "length": {"steps": 3}, "batch": 4},
        "postprocess": list(steps),
        "evaluate": {"soundscapes": ["scapes"], "hop_s": hop_s, "batch": 5},
    }  # fmt: skip
    for part, fields in changes.items():
        raw[part] = {**raw.get(part, {}), **fields}
    return ExperimentSpec.model_validate_json(json.dumps(raw))


Run = Callable[..., RunResult]


@pytest.fixture(scope="module")
def run(lab: Lab) -> Run:
    """Runs an experiment of this lab once, the plain one first."""
    run_experiment(spec_of(), lab=lab)
    made: dict[str, RunResult] = {}

    def run_once(*steps: dict[str, Any], **settings: Any) -> RunResult:
        spec = spec_of(*steps, **settings)
        key = spec.model_dump_json()
        if key not in made:
            made[key] = run_experiment(spec, lab=lab)
        return made[key]

    return run_once


def outputs(n_files: int = 30, hop_s: float = 5.0, seed: int = 0) -> StoredOutputs:
    """Windows of files of 1 to 6 windows, every `hop_s`, of three classes."""
    rng, per = np.random.default_rng(seed), round(5 / hop_s)
    counts = [per * (n - 1) + 1 for n in rng.integers(1, 7, n_files)]
    index = np.repeat(np.arange(n_files), counts)
    end_s = np.concatenate([5 + hop_s * np.arange(n) for n in counts])
    p, m = (rng.random((len(index), 3)).astype(np.float32) for _ in range(2))
    names = tuple(f"f{i}" for i in range(n_files))
    codes = ("kite", "rook", "wren")
    labels = pd.DataFrame({"recording": names, "primary_label": rng.choice(codes, n_files)})
    labels["secondary_labels"] = [()] * n_files
    return StoredOutputs(WindowOutputs(names, codes, index, end_s, p, np.maximum(p, m)), labels)


# ---------------------------------------------------------------- stored windows become rows


def test_without_steps_and_overlap_scores_are_those_of_before() -> None:
    stored, output = outputs(), OutputSpec()
    w = stored.windows
    plain = blend(w.clip_probs, w.time_max, output.clip, output.time_max)
    rows = deployed_probs(stored, output)
    assert np.array_equal(rows.probs, plain) and np.array_equal(rows.end_s, w.end_s)
    table = fold_table(stored, output, EvaluateSpec())
    assert np.array_equal(table.probs, pool_recordings(plain, w.recording_index))


@pytest.mark.parametrize("hop_s", [5.0, 2.5, 1.0])
def test_rows_are_what_predict_makes_of_the_windows(hop_s: float) -> None:
    """By hand: steps over all windows of a file, then the mean of those that overlap a row."""
    stored, steps = outputs(hop_s=hop_s), parse_steps(["smooth", "power:2"])
    w = stored.windows
    plain = blend(w.clip_probs, w.time_max, 0.75, 0.25)
    changed = apply_steps(plain, w.recording_index, w.end_s, w.codes, to_mappings(steps))
    rows = deployed_probs(stored, OutputSpec(), steps)
    assert np.array_equal(np.bincount(rows.recording_index), count_rows(w))
    for i in range(len(w.recordings)):
        inside = w.recording_index == i
        ends = w.end_s[inside]
        kept = ends[np.isclose(ends % 5, 0)]
        assert rows.end_s[rows.recording_index == i].tolist() == kept.tolist()
        shared = np.clip(5 - np.abs(kept[:, None] - ends), 0, None)
        expected = shared @ changed[inside].astype(np.float64) / shared.sum(1, keepdims=True)
        assert rows.probs[rows.recording_index == i] == pytest.approx(expected, abs=1e-6)
    table = fold_table(stored, OutputSpec(), EvaluateSpec(), steps)
    assert table.probs == pytest.approx(pool_recordings(rows.probs, rows.recording_index))


def test_windows_may_be_stored_in_any_order() -> None:
    stored, steps = outputs(hop_s=2.5), parse_steps(["smooth"])
    w, order = (
        stored.windows,
        np.random.default_rng(1).permutation(len(outputs(hop_s=2.5).windows.end_s)),
    )
    mixed = WindowOutputs(w.recordings, w.codes, w.recording_index[order], w.end_s[order],
                          w.clip_probs[order], w.time_max[order])  # fmt: skip
    found = deployed_probs(StoredOutputs(mixed, stored.labels), OutputSpec(), steps)
    assert np.array_equal(found.probs, deployed_probs(stored, OutputSpec(), steps).probs)


def test_recordings_of_which_a_part_is_in_training_go_through_the_steps_too() -> None:
    stored, steps = outputs(), parse_steps(["smooth"])
    marked = StoredOutputs(stored.windows, stored.labels.assign(apart=np.arange(30) % 3 == 0))
    given = (OutputSpec(), EvaluateSpec(), steps)
    whole = fold_table(stored, *given)
    apart = fold_table(marked, *given, apart=True)
    assert np.array_equal(apart.probs, whole.probs[::3])
    assert fold_table(stored, *given, apart=True).probs.shape == (0, 3)


# ---------------------------------------------------------------- a chain is scored, trains nothing


def test_a_chain_trains_nothing_predicts_nothing_and_changes_every_score(
    lab: Lab, run: Run
) -> None:
    plain, chained = run(), run(*CHAIN)
    assert chained.trained == 0 and chained.spec_id != plain.spec_id
    plans = [plan_experiment(spec_of(*steps), lab) for steps in ((), CHAIN)]
    for one, other in zip(plans[0].cells, plans[1].cells, strict=True):
        assert (one.cell_id, one.eval_id) == (other.cell_id, other.eval_id)
        assert len(list((lab.cells / one.cell_id).glob("outputs-*"))) == 1
    for name in ("cv/padded_cmap", "cv/soundscapes_padded_cmap", "cv/soundscapes_macro_auc"):
        assert plain.scores[name] != chained.scores[name]


def test_a_score_is_that_of_the_changed_windows(lab: Lab, run: Run) -> None:
    result, steps = run(*CHAIN), to_mappings(spec_of(*CHAIN).postprocess)
    plan = plan_experiment(spec_of(*CHAIN), lab)
    scores = []
    for cell in plan.final_cells:
        stored = load_outputs(outputs_folder(lab, cell))
        w = stored.windows
        probs = blend(w.clip_probs, w.time_max, 0.75, 0.25)
        after = apply_steps(probs, w.recording_index, w.end_s, w.codes, steps)
        pooled = pool_recordings(after, w.recording_index)
        truth = np.array([[c == p for c in w.codes] for p in stored.labels["primary_label"]])
        scores.append(padded_cmap(truth, pooled))
    assert result.scores["cv/padded_cmap"] == pytest.approx(np.mean(scores))


@pytest.mark.parametrize("hop_s", [None, 0.5])
def test_every_road_to_a_score_goes_through_the_chain(
    lab: Lab, run: Run, hop_s: float | None
) -> None:
    result = run(*CHAIN, hop_s=hop_s)
    record, scores = load_record(lab, result.spec_id), result.scores
    tables = load_fold_tables(lab, record)
    stored = [padded_cmap(t.targets, t.probs) for t in tables.values()]
    assert np.mean(stored) == pytest.approx(scores["cv/padded_cmap"])
    oof = load_oof(result.spec_id, lab)
    first = tables[0, 0]
    assert oof[oof["fold"] == 0][[f"prob/{c}" for c in first.codes]].to_numpy() == pytest.approx(
        first.probs
    )
    evidence = load_evidence(lab, record, heard=True)
    heard = [padded_cmap(*windows) for windows in evidence.heard.values()]
    assert np.mean(heard) == pytest.approx(scores["cv/soundscapes_padded_cmap"])
    assert scores["cv/soundscapes_n_windows"] == 18


def test_steps_of_post_are_tried_in_place_of_those_of_the_run(lab: Lab, run: Run) -> None:
    for hop_s in (None, 0.5):
        bare = run(hop_s=hop_s).scores
        record = load_record(lab, run(*CHAIN, hop_s=hop_s).spec_id)
        for found, name in (
            (heard_windows(lab, record), "cv/soundscapes_padded_cmap"),
            (held_out_windows(lab, record), "cv/padded_cmap"),
        ):
            steps = spec_of(*CHAIN).postprocess
            tried = score_steps(found.cells, steps, n_draws=100)
            assert tried.base == pytest.approx(bare[name])
            chained = run(*CHAIN, hop_s=hop_s).scores[name]
            assert tried.steps[-1].score == pytest.approx(chained)
            assert any("(smooth:weights=[1,2,1], file_scale:power=0.5) is left out" in note
                       for note in found.notes)  # fmt: skip


def test_soundscapes_of_a_board_get_the_blend_of_all_models_then_the_steps(
    lab: Lab, run: Run
) -> None:
    run(*CHAIN, hop_s=0.5)
    plan = plan_experiment(spec_of(*CHAIN, hop_s=0.5), lab)
    (score,) = score_soundscapes(plan, lab)
    (plain,) = score_soundscapes(plan_experiment(spec_of(hop_s=0.5), lab), lab)
    assert score.score != plain.score and score.n_windows == 18
    said = []
    for cell in plan.final_cells:
        loaded = [load_outputs(f) for f in (lab.cells / cell.cell_id).glob("soundscapes-*")]
        heard = [s.windows for s in loaded if s.windows.recordings[0] == "board0.wav"]
        (w,) = (w for w in heard if len(w.end_s) == 33)
        said.append(blend(w.clip_probs, w.time_max, 0.75, 0.25).astype(np.float64))
    mean = np.mean(said, axis=0).astype(np.float32)
    chain = [*to_mappings(plan.spec.postprocess), {"kind": "shift_average", "weights": "overlap"}]
    after = apply_steps(mean, w.recording_index, w.end_s, w.codes, chain)
    labels = pd.read_csv(lab.root / "board" / "labels.csv")
    truth = labels["label"].to_numpy()[:, None] == np.array(w.codes)
    assert score.score == pytest.approx(padded_cmap(truth, after[np.isclose(w.end_s % 1, 0)]))


# ---------------------------------------------------------------- what is scored is deployed

FOLDS = PromotionRequest(weights="folds", register=False, force=True, reason="a trial")


@pytest.fixture(scope="module")
def quick_budget() -> Iterator[None]:
    """How long a submission takes is measured in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machines, "SECONDS", 0.2)
        yield


def submit(model: Path, lab: Lab, out: Path, **settings: Any) -> pd.DataFrame:
    request = PredictRequest(model, lab.root / "scapes", out, sessions=1, threads=1, **settings)
    predict_to_file(request)
    return pd.read_csv(out).set_index("row_id")


def stored_rows(lab: Lab, plan: Plan) -> pd.DataFrame:
    """The rows of soundscapes by their ids, of the fold models' stored outputs blended as a model's
    members, through the chain of the spec."""
    said = [load_outputs(soundscapes_folder(lab, cell)) for cell in plan.final_cells]
    w = said[0].windows
    each = [blend(s.windows.clip_probs, s.windows.time_max, 0.75, 0.25) for s in said]
    mean = np.mean(each, axis=0, dtype=np.float64).astype(np.float32)
    rows = deploy_windows(w, mean, plan.spec.postprocess)
    stems = [Path(w.recordings[i]).stem for i in rows.recording_index]
    ids = [f"{stem}_{end:g}" for stem, end in zip(stems, rows.end_s, strict=True)]
    return pd.DataFrame(rows.probs, ids, list(w.codes))


def test_from_a_spec_to_a_submission(
    lab: Lab, run: Run, quick_budget: None, tmp_path: Path
) -> None:
    """Stored outputs through the chain of the spec are the CSV of the promoted model."""
    spec = spec_of(*CHAIN, hop_s=0.5)
    record = load_record(lab, run(*CHAIN, hop_s=0.5).spec_id)
    promotion = promote_runs(lab, [record], FOLDS)
    card = OnnxPredictor(promotion.path).card
    assert card.hop_s == 0.5 and card.to_metadata()["birdlab_format"] == "4"
    shown = json.loads((promotion.path.parent / "card.json").read_text())
    assert shown["postprocess"] == to_mappings(spec.postprocess) and shown["hop_s"] == 0.5
    assert shown["score"]["value"] == pytest.approx(record["scores"]["cv/padded_cmap"])
    assert all(found["largest"] < 1e-4 for found in shown["reproduced"].values())
    expected = stored_rows(lab, plan_experiment(spec, lab))
    found = submit(promotion.path, lab, tmp_path / "a.csv")
    assert list(found.index) == list(expected.index) and len(found) == 18
    assert np.abs(found[expected.columns] - expected).to_numpy().max() < 1e-4
    for settings in ({"post": ()}, {"hop_s": 1.0}):
        other = submit(promotion.path, lab, tmp_path / "b.csv", **settings)
        assert np.abs(other[expected.columns] - expected).to_numpy().max() > 1e-3


def test_what_predictions_get_may_be_said_otherwise(lab: Lab, run: Run) -> None:
    plans = {
        name: plan_experiment(spec_of(*steps, hop_s=hop_s), lab)
        for name, steps, hop_s in (("chain", CHAIN, 0.5), ("hop", (), 0.5), ("plain", (), None))
    }
    chain, smooth = plans["chain"], to_mappings(parse_steps(["smooth"]))
    own = settle_chain({"chain": chain}, FOLDS)
    assert own.steps == tuple(to_mappings(chain.spec.postprocess)) and own.hop_s == 0.5
    assert own.told == (
        "Post-processing of predictions: smooth, file_scale.",
        "Predictions hear a window every 0.5 s.",
    )
    none = settle_chain({"chain": chain}, replace(FOLDS, post=(), hop_s=1.0))
    assert (none.steps, none.hop_s) == ((), None)
    assert none.told == (
        "Post-processing of predictions: none.",
        "It stands in place of that of chain: smooth, file_scale.",
        "chain was scored on windows every 0.5 s: out-of-fold scores are of these.",
    )
    assert settle_chain({"plain": plans["plain"]}, FOLDS) == Chain()
    two = {name: plans[name] for name in ("chain", "hop")}
    with pytest.raises(PromotionError, match="different post-processing") as caught:
        settle_chain(two, FOLDS)
    assert "chain: smooth, file_scale; hop: none" in str(caught.value)
    assert settle_chain(two, replace(FOLDS, post=tuple(smooth))).steps == tuple(smooth)
    with pytest.raises(PromotionError, match="one hop") as caught:
        settle_chain({"hop": plans["hop"], "plain": plans["plain"]}, FOLDS)
    assert "hop: every 0.5 s; plain: every 1 s" in str(caught.value)
    average = tuple(to_mappings(parse_steps(["shift_average"])))
    with pytest.raises(SpecError, match="needs overlapping windows"):
        settle_chain({"plain": plans["plain"]}, replace(FOLDS, post=average))
    assert settle_chain({"hop": plans["hop"]}, replace(FOLDS, post=average)).steps == average
    for wrong in (0.3, float("inf")):
        with pytest.raises(OutputsError, match="no whole part of a window"):
            settle_chain({"hop": plans["hop"]}, replace(FOLDS, hop_s=wrong))


def test_a_mean_over_overlaps_leaves_a_run_without_them_its_score(lab: Lab, run: Run) -> None:
    """What is promoted hears a hop that the run did not."""
    record = load_record(lab, run().spec_id)
    average = tuple(to_mappings(parse_steps(["shift_average", "smooth"])))
    case = open_case(lab, [record], replace(FOLDS, post=average, hop_s=0.5))
    assert [step.kind for step in case.chain.steps_for(record)] == ["smooth"]
    smoothed = run({"smooth": {}}).scores["cv/padded_cmap"]
    assert case.score["value"] == pytest.approx(smoothed)


# ---------------------------------------------------------------- the fields of a spec


def test_old_ids_hold_and_each_field_has_its_own(lab: Lab) -> None:
    plans = {
        name: plan_experiment(spec_of(*steps, hop_s=hop_s), lab)
        for name, steps, hop_s in (
            ("plain", (), None),
            ("smooth", SMOOTH, None),
            ("wider", ({"smooth": [1, 1, 1]},), None),
            ("hop", (), 0.5),
        )
    }
    cells = {name: plan.final_cells[0] for name, plan in plans.items()}
    assert len({plan.spec_id for plan in plans.values()}) == 4
    assert len({cell.cell_id for cell in cells.values()}) == 1
    assert len({cell.rows_id for cell in cells.values()}) == 1, "scores compare"
    plain, hop = cells["plain"], cells["hop"]
    assert (cells["smooth"].eval_id, cells["smooth"].soundscapes_id) == (
        plain.eval_id,
        plain.soundscapes_id,
    )
    assert plain.eval_id != hop.eval_id and plain.soundscapes_id != hop.soundscapes_id
    assert "postprocess" not in canonical(spec_of()) and "hop_s" not in canonical(
        spec_of().evaluate
    )


def test_steps_are_part_of_a_cell_where_its_score_picks_the_weights(lab: Lab) -> None:
    """Best-epoch choice looks at the deployed output, so another chain is another cell."""
    steered = {"length": {"steps": 4}, "validate_every": 1, "checkpoint": "best"}
    ids = {
        plan_experiment(spec_of(*steps, hop_s=hop_s, train=steered), lab).final_cells[0].cell_id
        for steps, hop_s in (((), None), (SMOOTH, None), (CHAIN, None), (SMOOTH, 0.5))
    }
    assert len(ids) == 4
    job = save_job(
        plan_experiment(spec_of(*CHAIN, train=steered), lab),
        plan_experiment(spec_of(train=steered), lab).final_cells[0],
        lab.root / "jobs",
    )
    model = load_model(job.spec.model, 3, weights_path(lab, _any_cell(lab)))
    chained = _scores(job, lab, model)
    bare = _scores(replace(job, spec=spec_of(train=steered)), lab, model)
    assert chained["macro_auc"] != bare["macro_auc"] or chained["top1"] != bare["top1"]


def _any_cell(lab: Lab) -> str:
    return plan_experiment(spec_of(), lab).final_cells[0].cell_id


@pytest.mark.parametrize(
    ("steps", "hop_s", "said"),
    [
        (({"smoth": {}},), None, "did you mean 'smooth'"),
        (({"smooth": [1, 1]},), None, "an odd number"),
        (({"smooth": {}}, {"smooth": {}}), None, "names smooth more than once"),
        (({"shift_average": {}},), None, "set evaluate.hop_s, such as 0.5"),
        ((), 1.0, "divided by 2, 3, 4"),
        ((), 0.3, "divided by 2, 3, 4"),
        ((), 1 / 3, "the 8000 samples of a window at 8000 Hz are not 3 whole parts"),
    ],
)
def test_what_cannot_be_is_refused_with_the_spec(
    steps: tuple[dict[str, Any], ...], hop_s: float | None, said: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)):
        spec_of(*steps, hop_s=hop_s)


def test_a_species_that_is_no_class_is_refused_with_the_plan(lab: Lab) -> None:
    boost = {"boost": {"species": ["owl"]}}
    with pytest.raises(SpecError, match="species that are no classes: owl"):
        plan_experiment(spec_of(boost), lab)
    spec_of({"shift_average": "equal"}, hop_s=0.5)


def test_steps_have_dotted_names(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "competition: demo\ndata: {base: demo}\nmodel: {backbone: test_resnet}\n"
        "postprocess: [smooth, {file_scale: 0.5}]\n"
    )
    spec = load_spec(
        tmp_path / "base.yaml",
        {"postprocess.smooth.weights": [1, 1, 1], "postprocess.file_scale": "off"},
    )
    assert to_mappings(spec.postprocess) == [{"kind": "smooth", "weights": [1, 1, 1]}]


# ---------------------------------------------------------------- sweeps


def test_a_sweep_over_steps_trains_nothing_and_ranks_its_arms(lab: Lab, run: Run) -> None:
    run()
    (lab.root / "base.json").write_text(spec_of().model_dump_json())
    (lab.root / "sweep.yaml").write_text(
        "base: base.json\nname: testtime\none_factor:\n"
        "  smooth: {postprocess: [smooth]}\n  power: {postprocess: [power]}\n"
        "  shifts: {evaluate.hop_s: 0.5}\n"
    )
    sweep = load_sweep(lab.root / "sweep.yaml")
    planned = plan_sweep(sweep, lab)
    assert len(planned.cells) == 2 == len(planned.cached)
    outcome = run_sweep(sweep, lab, InProcess())
    results = {arm.title: result for arm, result in outcome.scored}
    assert all(result.trained == 0 for result in results.values())
    assert len({result.spec_id for result in results.values()}) == 4
    rows = load_runs(lab).set_index("run").loc[[r.spec_id for r in results.values()]]
    for which in ("rows_hash", "soundscapes_hash"):
        assert rows[which].nunique() == 1, "scores compare, also of windows that overlap"
    scores = {name: result.scores for name, result in results.items()}
    for name in ("cv/padded_cmap", "cv/soundscapes_padded_cmap"):
        assert scores["power"][name] == scores["base"][name], "it keeps the order"
        assert scores["shifts"][name] != scores["base"][name]
    assert (
        scores["smooth"]["cv/soundscapes_padded_cmap"]
        != scores["base"]["cv/soundscapes_padded_cmap"]
    )

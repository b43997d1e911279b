"""Synthetic soundscapes: what is mixed, when it sings, what is stored, and how it is scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browsing import complaints, wait
from commandline import print_of
from conftest import TINY_DEMO, MakeLab
from pydantic import ValidationError
from test_study_tables import build_synthetic

from birdlab.cellfiles import synthetic_folder
from birdlab.celljob import CellJob
from birdlab.cli.plans import describe_plan
from birdlab.cli.show import _difference
from birdlab.cli.summaries import summarise_run
from birdlab.data.activity import find_active
from birdlab.data.audio import Waveform
from birdlab.data.classes import ClassList
from birdlab.data.demo.rendering import FRAME_S, render_plan
from birdlab.data.demo.world import build_world
from birdlab.errors import DataError, OutputsError, SpecError
from birdlab.evaluate.distances import EARTH_KM, far_from
from birdlab.evaluate.estimators import estimate
from birdlab.evaluate.evidence import Evidence
from birdlab.evaluate.outputs import load_outputs, load_table
from birdlab.evaluate.synthetic import (
    Arrival,
    Part,
    cut_part,
    draw_arrivals,
    mark_truth,
    mix_soundscape,
)
from birdlab.jobwriter import save_job
from birdlab.lab import Lab
from birdlab.plan import Plan, plan_experiment
from birdlab.recorded import load_record
from birdlab.run import run_experiment
from birdlab.runresult import RunResult
from birdlab.scoring import fold_places, score_cell
from birdlab.spec import load_spec
from birdlab.spec.estimators import NewSites, SyntheticWindows
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.synthetic import SyntheticSpec
from birdlab.study.ablation_view import build_ablation_view
from birdlab.study.cvlb_view import compare_validators
from birdlab.study.rescoring import build_estimator, rescore_run
from birdlab.study.synthetic_report import ShownSoundscape, synthetic_report_html
from birdlab.study.tables import pair_cv_lb
from birdlab.synthetic import TRUTH, is_usable, load_synthetic, open_synthetic
from birdlab.tracking.evidence import load_evidence
from birdlab.tracking.index import load_cells, load_runs

RATE = 8_000
Array = np.ndarray[Any, Any]
SPEC = SyntheticSpec(n=4, seconds=10.0, backgrounds=("tiny",))


def noise(seconds: float, seed: int = 0, level: float = 0.01) -> Array:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def sing(wave: Array, start_s: float, end_s: float, hz: float = 2000.0) -> Array:
    """The wave with a tone in it."""
    out, first, last = wave.copy(), round(start_s * RATE), round(end_s * RATE)
    out[first:last] += 0.2 * np.sin(2 * np.pi * hz * np.arange(last - first) / RATE)
    return out.astype(np.float32)


# ---------------------------------------------------------------- what is drawn


def test_what_is_drawn_has_names_of_its_own() -> None:
    columns = np.array([0] * 30 + [1] * 5 + [3])
    drawn = [draw_arrivals(SPEC, i, columns) for i in range(200)]
    rows = [a.row for one in drawn for a in one]
    assert np.mean([len(one) for one in drawn]) == pytest.approx(8 * 10 / 60, abs=0.3)
    assert np.bincount(columns[rows], minlength=4) / len(rows) == pytest.approx(
        [1 / 3, 1 / 3, 0, 1 / 3], abs=0.1
    )
    common = replace_spec(species="as_recorded")
    counted = [columns[a.row] for i in range(200) for a in draw_arrivals(common, i, columns)]
    assert np.mean(np.array(counted) == 0) == pytest.approx(30 / 36, abs=0.08)
    assert all(0 <= a.at_s < 10 and 2 <= a.length_s <= 8 for one in drawn for a in one)
    assert [a.at_s for a in drawn[0]] == sorted(a.at_s for a in drawn[0])
    louder = [draw_arrivals(replace_spec(snr_db=(30.0, 40.0)), i, columns) for i in range(200)]
    assert all(30 <= a.snr_db <= 40 for one in louder for a in one)
    assert [[replace(a, snr_db=0) for a in one] for one in louder] == [
        [replace(a, snr_db=0) for a in one] for one in drawn
    ], "the level moves nothing else"
    assert drawn == [draw_arrivals(replace_spec(n=9), i, columns) for i in range(200)]
    assert drawn != [draw_arrivals(replace_spec(seed=1), i, columns) for i in range(200)]
    assert draw_arrivals(SPEC, 0, np.zeros(0, np.int64)) == ()


def replace_spec(**changes: Any) -> SyntheticSpec:
    return SyntheticSpec.model_validate({**SPEC.model_dump(), **changes})


# ---------------------------------------------------------------- when something sings


def test_song_is_found_over_the_noise_of_its_recording() -> None:
    wave = sing(sing(noise(8), 1.0, 2.5), 5.0, 5.4, hz=900)
    found = find_active(wave, RATE)
    assert found.stretches == pytest.approx(np.array([[1.0, 2.5], [5.0, 5.4]]), abs=0.06)
    assert find_active(100 * wave, RATE).stretches == pytest.approx(found.stretches)
    assert len(find_active(noise(8), RATE).stretches) == 0
    assert len(find_active(np.zeros(800, np.float32), RATE).stretches) == 0
    assert len(find_active(np.zeros(3, np.float32), RATE).stretches) == 0


def test_what_is_found_in_demo_recordings_is_their_song() -> None:
    """Frames of a tenth of a second, against what the demo knows of its own recordings."""
    right = found = there = 0
    for plan in [p for p in build_world(TINY_DEMO).recordings if not p.background][:6]:
        rendered = render_plan(TINY_DEMO, plan)
        truth = rendered.audible[plan.primary]
        middles = (np.arange(len(truth)) + 0.5) * FRAME_S
        spans = find_active(rendered.wave, 32_000).stretches
        marks = np.array([((spans[:, 0] <= t) & (t < spans[:, 1])).any() for t in middles])
        right, found, there = (
            right + (marks & truth).sum(),
            found + marks.sum(),
            there + truth.sum(),
        )
    assert found > 50
    assert right / found > 0.85
    assert right / there > 0.6


# ---------------------------------------------------------------- mixing and truth


def test_a_mixture_is_its_background_and_its_parts() -> None:
    """Against mixing by hand: gain, place, fades, what is cut off at the end, equal truth once."""
    background = noise(10, seed=1)
    piece = sing(noise(6, seed=2), 2.0, 4.0)
    first = Arrival(0, at_s=1.0, length_s=3.0, snr_db=10.0, piece=0, song=0)
    part = cut_part(piece, RATE, first)
    assert part is not None and len(part.wave) == 3 * RATE
    assert part.stretches == pytest.approx(np.array([[0.25, 2.25]]), abs=0.1)
    late, again = replace(first, at_s=9.0), replace(first, at_s=2.0)
    arrivals = [(first, "a"), (late, "b"), (again, "a"), (replace(first, at_s=6), "gone")]
    wave, truth = mix_soundscape(
        background, RATE, arrivals, lambda a: None if a.at_s == 6 else part
    )
    at, n = part.stretches[0], 3 * RATE
    assert truth.to_numpy().tolist() == [
        [pytest.approx(1 + at[0]), pytest.approx(2 + at[1]), "a"],
        [pytest.approx(9 + at[0]), 10.0, "b"],
    ]
    added = wave - background
    assert not added[:RATE].any() and not added[5 * RATE : 9 * RATE].any()
    alone, _ = mix_soundscape(background, RATE, [(first, "a")], lambda _: part)
    middle = slice(RATE + n // 4, RATE + n // 2)
    gain = (alone - background)[middle] / part.wave[n // 4 : n // 2]
    assert gain == pytest.approx(float(np.median(gain)), rel=1e-2)
    tone = np.median(gain) * 0.2 / np.sqrt(2)
    per_band = np.mean(background**2) * (2000 * (2 ** (1 / 6) - 2 ** (-1 / 6))) / (RATE / 2)
    assert 10 * np.log10(tone**2 / per_band) == pytest.approx(10, abs=1.5)
    louder, _ = mix_soundscape(
        background, RATE, [(replace(first, snr_db=20.0), "a")], lambda _: part
    )
    ratio = np.abs(louder - background)[middle].max() / np.abs(alone - background)[middle].max()
    assert 20 * np.log10(ratio) == pytest.approx(10, abs=0.01)
    silent, _ = mix_soundscape(np.zeros(RATE, np.float32), RATE, [(first, "a")], lambda _: part)
    assert not silent.any(), "it begins when the second is over"


def test_a_piece_in_which_nothing_sings_gives_no_part() -> None:
    assert cut_part(noise(3), RATE, Arrival(0, 0, 2, 10, 0, 0)) is None
    songs = sing(sing(noise(8), 1, 2), 6, 7)
    last = cut_part(songs, RATE, Arrival(0, 0, 5, 10, 0, 0.9))
    assert isinstance(last, Part)
    assert len(last.wave) / RATE == pytest.approx(2.25, abs=0.1), "up to the end of the piece"


def test_the_truth_of_windows_counts_seconds() -> None:
    """Against counting milliseconds, with windows of any place."""
    rng, classes = np.random.default_rng(3), ClassList(("a", "b", "c"))
    rows = []
    for name in ("x", "y"):
        for label in ("a", "b", "a strange bird"):
            edges = np.sort(np.round(rng.uniform(0, 20, 8), 3))
            rows += [(s, e, label, name) for s, e in edges.reshape(-1, 2)]
    truth = pd.DataFrame(rows, columns=["start_s", "end_s", "label", "recording"])
    ends = np.tile(np.arange(2, 22, 1.0), 2)
    names = np.repeat(np.array(["x", "y"], object), 20)
    marked = mark_truth(truth, names, ends, 2.0, classes, 0.3)
    for name, end, row in zip(names, ends, marked, strict=True):
        ms = np.arange(round((end - 2) * 1000), round(end * 1000)) / 1000 + 0.0005
        for code, mark in zip(classes, row, strict=True):
            own = truth[(truth["recording"] == name) & (truth["label"] == code)]
            heard = sum(
                ((s <= ms) & (ms < e)).sum() for s, e in own[["start_s", "end_s"]].to_numpy()
            )
            assert mark == (heard >= 300)
    assert marked[:, :2].any() and not marked[:, 2].any()


# ---------------------------------------------------------------- a run


def with_synthetic(lab: Lab, **changes: Any) -> ExperimentSpec:
    mixed = {"n": 4, "seconds": 10, "backgrounds": ["tiny"], "snr_db": [10, 20], **changes}
    return load_spec(lab.root / "tiny.yaml", {"name": "tiny", "evaluate.synthetic": mixed})


@pytest.fixture(scope="module")
def heard(
    tmp_path_factory: pytest.TempPathFactory, trained_lab: Path
) -> tuple[Lab, RunResult, Plan]:
    """The tiny experiment, trained before, and heard on synthetic soundscapes now."""
    import shutil

    from birdlab.lab import open_lab

    root = tmp_path_factory.mktemp("synthetic") / "lab"
    shutil.copytree(trained_lab, root)
    lab = open_lab(root)
    spec = with_synthetic(lab)
    return lab, run_experiment(spec, lab=lab), plan_experiment(spec, lab)


def job_of(lab: Lab, plan: Plan, number: int) -> CellJob:
    return save_job(plan, plan.final_cells[number], lab.root / "jobs")


def test_cells_are_heard_once_and_nothing_is_trained(heard: tuple[Lab, RunResult, Plan]) -> None:
    lab, result, plan = heard
    assert (result.trained, result.cached) == (0, 2)
    assert 0 < result.scores["cv/synthetic_padded_cmap"] < 1
    assert 0 < result.scores["cv/synthetic_macro_auc"] < 1
    assert result.scores["cv/synthetic_n_windows"] == 8
    files = [f for c in plan.final_cells for f in synthetic_folder(lab, c).iterdir()]
    assert {f.name for f in files} == {"windows.parquet", "recordings.parquet", f"{TRUTH}.parquet"}
    before = {file: file.stat().st_mtime_ns for file in files}
    again = run_experiment(with_synthetic(lab), lab=lab)
    assert again.scores == result.scores
    assert {file: file.stat().st_mtime_ns for file in files} == before
    without = plan_experiment(load_spec(lab.root / "tiny.yaml"), lab)
    assert [c.cell_id for c in without.cells] == [c.cell_id for c in plan.cells]
    assert not without.synthetic_hash and without.spec_id != plan.spec_id


def test_only_held_out_recordings_of_one_species_are_mixed(
    heard: tuple[Lab, RunResult, Plan],
) -> None:
    lab, _, plan = heard
    for number, cell in enumerate(plan.final_cells):
        assert cell.validation is not None
        table = cell.rows.table.iloc[cell.validation]
        source = open_synthetic(job_of(lab, plan, number), lab)
        alone = [i for i in cell.validation if not cell.rows.table["secondary_labels"][i]]
        assert 0 < len(source.labels) == len(alone) < len(table)
        assert list(source.labels) == list(cell.rows.table["primary_label"][alone])
        keys = source.waves.locate([str(cell.rows.keys[i]) for i in alone])
        assert source.rows.place.tolist() == keys.tolist()
        assert not set(alone) & set(cell.chosen.tolist())
    table = table.assign(apart=True)
    assert not is_usable(table).any()


def test_a_soundscape_depends_on_no_other(heard: tuple[Lab, RunResult, Plan]) -> None:
    """In whatever order and by whichever process they are mixed, waves and truth are the same."""
    lab, _, plan = heard
    source = open_synthetic(job_of(lab, plan, 0), lab)
    waves = {i: source.render(i) for i in (3, 1, 0, 2)}
    other = open_synthetic(job_of(lab, plan, 0), lab)
    stored = load_table(synthetic_folder(lab, plan.final_cells[0]), TRUTH)
    for i in range(4):
        wave, truth = other.render(i)
        assert np.array_equal(wave.samples, waves[i][0].samples) and wave.scale == waves[i][0].scale
        assert np.abs(wave.samples).max() == 32767 and wave.duration_s == 10
        own = stored[stored["recording"] == source.names[i]].drop(columns="recording")
        assert own.to_numpy().tolist() == truth.to_numpy().tolist()
    assert len(stored) > 3


def test_a_perfect_predictor_scores_one_and_a_silent_one_the_floor(
    heard: tuple[Lab, RunResult, Plan],
) -> None:
    lab, result, plan = heard
    scored = {c.key: c for c in (score_cell(plan, cell, lab) for cell in plan.final_cells)}
    tables = {key: s.table for key, s in scored.items() if s.table is not None}
    truth = {key: s.synthetic[0] for key, s in scored.items() if s.synthetic is not None}
    assert all(t.any() and not t.all() for t in truth.values())
    auc = SyntheticWindows(name="x", metric="macro_auc")
    for probs, score in ((1.0, 1.0), (-1.0, 0.0), (0.0, 0.5)):
        said = {
            k: (t, (0.5 + 0.4 * probs * (t - 0.5)).astype(np.float32)) for k, t in truth.items()
        }
        assert estimate(auc, Evidence(tables, synthetic=said)).score == pytest.approx(score)
    none = {k: (t, np.zeros(t.shape, np.float32)) for k, t in truth.items()}
    found = estimate(SyntheticWindows(name="x"), Evidence(tables, synthetic=none)).score
    assert found == pytest.approx(result.scores["cv/synthetic_floor"])
    assert "evaluate.synthetic" in estimate(auc, Evidence(tables)).why


def test_the_switches_change_what_is_heard(heard: tuple[Lab, RunResult, Plan]) -> None:
    lab, _, plan = heard
    ids = {plan.synthetic_hash}
    for changes in (
        {"seed": 1}, {"n": 5}, {"seconds": 15}, {"per_minute": 4}, {"species": "as_recorded"},
        {"part_s": [1, 2]}, {"snr_db": [0, 5]},
    ):  # fmt: skip
        other = plan_experiment(with_synthetic(lab, **changes), lab)
        ids.add(other.synthetic_hash)
        source, before = (open_synthetic(job_of(lab, p, 0), lab) for p in (other, plan))
        assert any(source.arrivals(i) != before.arrivals(i) for i in range(4)) or "n" in changes
    assert len(ids) == 8
    mixed = with_synthetic(lab).model_dump(mode="json")["evaluate"]["synthetic"]
    hops = load_spec(lab.root / "tiny.yaml", {"evaluate": {"synthetic": mixed, "hop_s": 2.5}})
    assert plan_experiment(hops, lab).synthetic_hash not in ids, "windows are heard otherwise"
    longer = plan_experiment(with_synthetic(lab, min_s=2.0), lab)
    assert longer.synthetic_hash == plan.synthetic_hash and longer.spec_id != plan.spec_id
    folder = synthetic_folder(lab, plan.final_cells[0])
    marks = [load_synthetic(folder, p.spec)[0].sum() for p in (plan, longer)]
    assert 0 < marks[1] < marks[0]


def test_steps_apply_to_synthetic_windows(heard: tuple[Lab, RunResult, Plan]) -> None:
    lab, _, plan = heard
    folder = synthetic_folder(lab, plan.final_cells[0])
    smoothed = load_spec(
        lab.root / "tiny.yaml",
        {
            "evaluate.synthetic": {"backgrounds": ["tiny"]},
            "postprocess": [{"file_scale": 1.0}],
        },
    )
    truth, probs = load_synthetic(folder, smoothed)
    before_truth, before = load_synthetic(folder, plan.spec)
    assert np.array_equal(truth, before_truth) and np.abs(probs - before).max() > 1e-4
    with pytest.raises(OutputsError, match="cannot be read"):
        load_synthetic(folder.with_name("gone"), plan.spec)


def test_scores_are_kept_read_back_and_counted_again(heard: tuple[Lab, RunResult, Plan]) -> None:
    lab, result, plan = heard
    (run,) = load_runs(lab).query("synthetic_hash != ''").to_dict("records")
    assert run["cv/synthetic_padded_cmap"] == result.scores["cv/synthetic_padded_cmap"]
    assert run["synthetic_hash"] == plan.synthetic_rows
    cells = load_cells(lab)
    assert cells[cells["run"] == result.spec_id]["synthetic_n_windows"].tolist() == [8, 8]
    record = load_record(lab, result.spec_id)
    evidence = load_evidence(lab, record, synthetic=True, new=True)
    again = rescore_run(evidence, build_estimator("padded_cmap", "synthetic"))
    assert again.score == result.scores["cv/synthetic_padded_cmap"]
    assert again.floor == pytest.approx(result.scores["cv/synthetic_floor"])
    assert again.n_rows == 16
    sites = rescore_run(evidence, build_estimator("padded_cmap", "new_sites"))
    assert sites.score == result.scores["cv/padded_cmap_new_sites"]
    old = json.loads(json.dumps(record))
    for cell in old["cells"]:
        del cell["synthetic_id"]
    with pytest.raises(DataError, match="no stored outputs on synthetic"):
        load_evidence(lab, old, synthetic=True)


# ---------------------------------------------------------------- new sites


def test_distances_are_great_circles() -> None:
    rng = np.random.default_rng(5)
    a, b = (np.stack([rng.uniform(-90, 90, n), rng.uniform(-180, 180, n)], 1) for n in (40, 7))
    (la, lo), (lb, mo) = np.radians(a).T[:, :, None], np.radians(b).T[:, None, :]
    half = np.sin((la - lb) / 2) ** 2 + np.cos(la) * np.cos(lb) * np.sin((lo - mo) / 2) ** 2
    km = 2 * EARTH_KM * np.arcsin(np.sqrt(half)).min(axis=1)
    for limit in (0.0, 1500.0, 4000.0, 30_000.0):
        assert far_from(a, b, limit).tolist() == (km > limit).tolist()
    assert far_from(a, a, 0.0).tolist() == [False] * 40
    assert far_from(np.array([[0.0, 179.9]]), np.array([[0.0, -179.9]]), 30.0).tolist() == [False]
    assert far_from(a, np.zeros((0, 2)), 5.0).all() and not len(far_from(a[:0], b, 5.0))


def test_new_sites_are_those_that_no_training_row_is_near(
    heard: tuple[Lab, RunResult, Plan],
) -> None:
    lab, result, plan = heard
    places = fold_places(plan.final_cells)
    scored = {c.key: c for c in (score_cell(plan, cell, lab) for cell in plan.final_cells)}
    tables = {key: s.table for key, s in scored.items() if s.table is not None}
    evidence = Evidence(tables, places=places)
    table = plan.rows.table
    for km in (1.0, 50.0, 3000.0):
        for cell in plan.final_cells:
            held = table.iloc[cell.validation]
            trained = table.iloc[np.unique(cell.chosen)][["latitude", "longitude"]].to_numpy()
            new = far_from(held[["latitude", "longitude"]].to_numpy(), trained, km)
            assert evidence.new_sites(km)[int(cell.fold or 0)] == frozenset(held["recording"][new])
    few, many = (len(evidence.new_sites(km)[0]) for km in (3000.0, 1.0))
    assert few < many
    found = estimate(NewSites(name="x"), evidence)
    assert found.score == result.scores["cv/padded_cmap_new_sites"]
    assert found.score != result.scores["cv/padded_cmap"]
    assert NewSites.model_validate({"kind": "new_sites", "km": 5.0}).name == (
        "padded_cmap_new_sites_5km"
    )
    unknown = replace(plan.rows, table=table.assign(latitude=np.nan))
    blind = [replace(cell, rows=unknown) for cell in plan.final_cells]
    assert fold_places(blind) == {}
    assert "no recording is known" in estimate(NewSites(name="x"), Evidence(tables)).why


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seconds": 7}, "multiple"),
        ({"seconds": 2.5}, "multiple"),
        ({"part_s": [0.1, 2]}, "min_s"),
        ({"min_s": 6, "part_s": [7, 9]}, "no window"),
        ({"backgrounds": []}, "backgrounds"),
        ({"seconds": 1e12}, "3600"),
        ({"per_minute": 1e30}, "600"),
        ({"snr_db": [0, 4000]}, "100 dB"),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    make_lab: MakeLab, changes: dict[str, Any], words: str
) -> None:
    lab = make_lab(decoded=False)
    with pytest.raises((SpecError, ValidationError), match=words):
        with_synthetic(lab, **changes)


def test_a_fold_without_a_recording_to_mix_is_refused(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    spec = with_synthetic(lab)
    plan = plan_experiment(spec, lab, strict=False)
    assert any("training mixes in too: tiny" in note for note in plan.notes)
    from birdlab.synthetic import name_synthetic

    crowded = plan.rows.table.assign(secondary_labels=[("x",)] * len(plan.rows.table))
    cells = [replace(c, rows=replace(c.rows, table=crowded)) for c in plan.final_cells]
    with pytest.raises(DataError, match="no recording of fold 0 can be mixed"):
        list(name_synthetic(cells, spec, plan.backgrounds, plan.data.classes))
    with pytest.raises(DataError, match="no recording that can be used"):
        list(name_synthetic(plan.final_cells, spec, {"tiny": ()}, plan.data.classes))


def test_outputs_of_one_job_are_those_of_another(heard: tuple[Lab, RunResult, Plan]) -> None:
    """The folder is made anew by `store_outputs` of a job that another process could have."""
    import shutil

    from birdlab.validation import store_outputs

    lab, _, plan = heard
    folder = synthetic_folder(lab, plan.final_cells[1])
    before = load_outputs(folder).windows
    shutil.move(folder, folder.with_name("aside"))
    store_outputs(job_of(lab, plan, 1), lab, lab.cells / plan.final_cells[1].cell_id)
    after = load_outputs(folder).windows
    shutil.rmtree(folder.with_name("aside"))
    assert np.array_equal(before.clip_probs, after.clip_probs)
    assert before.recordings == after.recordings


# ---------------------------------------------------------------- to listen to, and to judge by


def test_soundscapes_are_written_with_their_truth(
    heard: tuple[Lab, RunResult, Plan], tmp_path: Path
) -> None:
    import soundfile

    lab, _, plan = heard
    mixed = "evaluate.synthetic={n: 4, seconds: 10, backgrounds: [tiny], snr_db: [10, 20]}"
    asked = ["data", "synthetic", str(lab.root / "tiny.yaml"), "--set", mixed, "--fold", "1"]
    said = print_of(lab, *asked, "-n", "2", "-o", str(tmp_path))
    assert "synthetic-001.flac  10 s" in said and "index.html" in said
    table = pd.read_csv(tmp_path / "truth.csv")
    stored = load_table(synthetic_folder(lab, plan.final_cells[1]), TRUTH)
    shown = stored[stored["recording"].isin(["synthetic-000", "synthetic-001"])]
    assert len(table) == len(shown) > 0
    assert table["start_s"].to_numpy() == pytest.approx(shown["start_s"].to_numpy(), abs=1e-3)
    wave, _ = open_synthetic(job_of(lab, plan, 1), lab).render(1)
    samples, rate = soundfile.read(tmp_path / "synthetic-001.flac", dtype="int16")
    assert rate == 32_000 and np.array_equal(samples, wave.samples)
    page = (tmp_path / "index.html").read_text()
    assert "src='synthetic-000.flac'" in page and str(table["label"][0]) in page
    with pytest.raises(SpecError, match="no synthetic soundscapes"):
        print_of(lab, "data", "synthetic", str(lab.root / "tiny.yaml"))


def test_the_page_plays_the_files_beside_it(browser: Any, tmp_path: Path) -> None:
    import soundfile

    noise = np.random.default_rng(0).integers(-9_000, 9_000, 32_000).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", noise, 32_000, subtype="PCM_16")
    truth = pd.DataFrame({"start_s": [0.2], "end_s": [0.7], "label": ["amerob"]})
    shown = ShownSoundscape("a.flac", Waveform(noise, 1.0, 32_000), truth)
    (tmp_path / "index.html").write_text(synthetic_report_html("tiny", 0, [shown]))
    browser.get((tmp_path / "index.html").as_uri())
    browser.execute_script("document.querySelector('audio').load()")
    browser.execute_script("document.querySelector('audio').preload = 'auto'")
    assert wait(browser, "document.querySelector('audio').duration") == pytest.approx(1, abs=0.05)
    assert complaints(browser) == []


def test_runs_are_shown_with_their_synthetic_scores(heard: tuple[Lab, RunResult, Plan]) -> None:
    lab, result, plan = heard
    score = f"{result.scores['cv/synthetic_padded_cmap']:.4f}"
    assert f"  synthetic    padded cmAP {score}, macro AUC" in summarise_run(result)
    table = print_of(lab, "runs").splitlines()
    assert "synthetic" in table[0] and "soundscapes" not in table[0]
    assert any(score in line for line in table if line.startswith(result.spec_id))
    one = load_record(lab, result.spec_id)
    other = one | {"evaluation": one["evaluation"] | {"synthetic_rows": "others"}}
    gap = _difference(one, one, [])["scores"]["cv/synthetic_padded_cmap"]
    assert gap["a"] == result.scores["cv/synthetic_padded_cmap"] and gap["difference"] == 0
    assert _difference(one, other, [])["scores"]["cv/synthetic_macro_auc"]["difference"] is None
    usable = len(open_synthetic(job_of(lab, plan, 0), lab).labels)
    assert (
        f"    synthetic   4 soundscapes of 10 s in fold 0, of {usable} of its 12 recordings, over "
        "tiny; heard once"
    ) in describe_plan(plan, lab)


def test_arms_that_heard_other_soundscapes_are_left_out() -> None:
    tables = build_synthetic(24)
    runs, cells = tables.runs, tables.cells
    cells["synthetic_padded_cmap"], cells["synthetic_n_windows"] = cells["padded_cmap"], 8.0
    runs["synthetic_hash"] = ["a-b-c", "a-b-c", "b-c", "a-x-y", "d-e-f", *["a-b-c"] * 19]
    view = build_ablation_view(tables, "lr", "synthetic_padded_cmap")
    assert view.metric == "synthetic_padded_cmap" and view.ranking is not None
    assert set(view.arms.values()) == set(runs["run"][:4]), "folds that they share compare"
    assert f"1 run scored on other soundscapes: {runs['name'][4]}." in view.sentences[-1]
    runs["synthetic_hash"] = ["", "", "", "d-e-f", "d-e-f", *["a-b-c"] * 19]
    cells.loc[cells["run"].isin(runs["run"][:3]), "synthetic_padded_cmap"] = np.nan
    later = build_ablation_view(tables, "lr", "synthetic_padded_cmap")
    assert set(later.arms.values()) == set(runs["run"][3:5]), "most arms are from before"
    clips = build_ablation_view(tables, "lr", "padded_cmap")
    assert set(clips.arms.values()) == set(runs["run"][:5])


def test_validators_are_ranked_by_how_they_order_a_board() -> None:
    """The private order is that of the synthetic scores here, and the clips know nothing of it."""
    tables = build_synthetic(24)
    rng = np.random.default_rng(0)
    runs, ledger = tables.runs, tables.ledger.copy()
    scores = pd.Series(rng.uniform(0.4, 0.6, len(runs)), index=runs["run"])
    runs["cv/synthetic_padded_cmap"], runs["synthetic_hash"] = scores.to_numpy(), "one"
    ledger["private"] = scores.reindex(ledger["run"]).to_numpy() + 0.1
    found = compare_validators(replace(tables, ledger=ledger), "private")
    assert found.n == 24 and found.table["estimator"][0] == "cv/synthetic_padded_cmap"
    assert found.table["spearman"][0] == pytest.approx(1)
    assert found.table["spearman"][1:].abs().max() < 0.6
    assert "cv/synthetic_padded_cmap predicts the leaderboard best" in found.sentences[0]
    few = compare_validators(replace(tables, ledger=ledger), "private", list(runs["run"][:6]))
    assert few.n == 6 and few.sentences[0].startswith("No verdict")
    split = runs.assign(synthetic_hash=["one"] * 20 + ["other"] * 4)
    pairs = pair_cv_lb(
        replace(tables, runs=split), metric="padded_cmap", cv="cv/synthetic_padded_cmap"
    )
    assert len(pairs) == 20, "scores on other soundscapes do not compare"
    with pytest.raises(DataError, match="no run with a CV score"):
        compare_validators(tables, "privat")
    ledger.loc[:3, "precision"] = "int8"
    mixed = compare_validators(replace(tables, ledger=ledger), "private")
    assert mixed.n == 20 and "4 submissions of another kind" in mixed.left_out[0]
    ledger["metric"] = ["macro_auc"] * 21 + ["padded_cmap"] * 3
    ledger.loc[:18, "private"] = np.nan
    assert compare_validators(replace(tables, ledger=ledger), "private").n == 3, "of the board"


@pytest.mark.slow
def test_two_jobs_hear_what_one_hears(
    heard: tuple[Lab, RunResult, Plan], make_lab: MakeLab
) -> None:
    from birdlab.lab import open_lab

    lab, result, plan = heard
    other = make_lab(trained=True)
    file = other.root / "birdlab.toml"
    file.write_text(file.read_text().replace("jobs = 1", "jobs = 2"))
    other = open_lab(other.root)
    again = run_experiment(with_synthetic(other), lab=other)
    assert again.trained == 0 and again.scores == result.scores
    for cell in plan.final_cells:
        one, two = (load_outputs(synthetic_folder(place, cell)).windows for place in (lab, other))
        assert np.array_equal(one.clip_probs, two.clip_probs)

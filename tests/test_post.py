"""What steps are worth on labelled windows: scores, intervals, the choice among several, `post`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from birdlab.cli import app as cli
from birdlab.data.windows_truth import name_windows
from birdlab.errors import BirdlabError, DataError, SpecError
from birdlab.evaluate.evidence import FoldTable
from birdlab.evaluate.metrics import cmap_min5, macro_auc, padded_cmap
from birdlab.evaluate.postprocess import RANKED_WITHIN_CLASS, apply_steps
from birdlab.evaluate.steps import load_steps, parse_steps, to_mappings
from birdlab.lab import Lab, open_lab
from birdlab.promote.case import open_case
from birdlab.promote.request import PromotionRequest
from birdlab.recorded import load_records
from birdlab.study.post_choice import MIN_GROUPS, NONE, choose_on_halves
from birdlab.study.post_sources import held_out_windows, predicted_windows
from birdlab.study.post_words import describe_post
from birdlab.study.postprocessing import LabelledWindows, score_steps
from birdlab.study.recordings import weighted_aucs

METRICS = {"padded_cmap": padded_cmap, "macro_auc": macro_auc, "cmap_min5": cmap_min5}
CODES = ("kite", "owl", "rook", "wren")
AVERAGE = {"kind": "shift_average", "weights": "overlap"}


def call(lab: Lab, *args: str) -> str:
    done = CliRunner().invoke(cli.app, ["--lab", str(lab.root), *args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    if not cli.app.registered_commands:
        cli._register()
    monkeypatch.setenv("BIRDLAB_HOME", "")  # the option --lab sets it: put back afterwards


def singing(
    n_files: int = 12, n_windows: int = 10, seed: int = 0, hop_s: float = 5.0
) -> LabelledWindows:
    """Files in which a species sings for some windows in a row, heard through noise."""
    rng = np.random.default_rng(seed)
    targets = np.zeros((n_files, n_windows, len(CODES)), bool)
    for file, column in np.ndindex(n_files, len(CODES) - 1):
        if rng.random() < 0.5:
            start = rng.integers(0, n_windows - 3)
            targets[file, start : start + 4, column] = True
    flat = targets.reshape(-1, len(CODES))
    probs = 1 / (1 + np.exp(2 - 2 * flat - 1.5 * rng.standard_normal(flat.shape)))
    file = np.repeat(np.arange(n_files), n_windows)
    end_s = np.tile(5 + hop_s * np.arange(n_windows), n_files)
    scored = end_s % 5 == 0
    rows = tuple(f"f{f} {e:g}" for f, e in zip(file[scored], end_s[scored], strict=True))
    return LabelledWindows(
        CODES,
        probs.astype(np.float32),
        file,
        end_s,
        5.0,
        np.where(scored, np.cumsum(scored) - 1, -1),
        rows,
        flat[scored],
        {row: row.split()[0] for row in rows},
    )


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("metric", RANKED_WITHIN_CLASS)
def test_scores_are_those_of_the_changed_windows(metric: str) -> None:
    windows = singing()
    steps = parse_steps(["smooth", "file_scale:0.5", "power"])
    scores = score_steps({(0, 0): windows}, steps, metric, n_draws=100)
    measure = METRICS[metric]
    base = measure(windows.targets, windows.probs)
    assert scores.base == pytest.approx(base)
    chains = [*([step] for step in to_mappings(steps)), to_mappings(steps)]
    for found, chain in zip(scores.steps, chains, strict=True):
        after = apply_steps(windows.probs, windows.file, windows.end_s, CODES, chain)
        assert found.score == pytest.approx(measure(windows.targets, after))
        assert found.delta == pytest.approx(found.score - base)
        if found.interval is not None:
            assert found.interval.delta == pytest.approx(found.delta)
            assert found.interval.low < found.delta < found.interval.high
    smooth, _, power, chain = scores.steps
    assert smooth.interval is not None and smooth.interval.low > 0, "songs last some windows"
    assert (power.delta, power.interval) == (0, None) and metric in power.unchanged
    assert chain.title == "the whole chain" and not chain.unchanged
    assert (scores.n_rows, scores.n_groups, scores.n_models) == (120, 12, 1)


def test_the_models_of_folds_are_averaged_and_their_seeds_first() -> None:
    cells = {(0, 0): singing(), (0, 1): singing(seed=1), (1, 0): singing(seed=2)}
    cells = {
        cell: replace(w, targets=cells[0, 0].targets, probs=w.probs) for cell, w in cells.items()
    }
    scores = score_steps(cells, parse_steps(["smooth"]), n_draws=100)
    each = {cell: padded_cmap(w.targets, w.probs) for cell, w in cells.items()}
    expected = ((each[0, 0] + each[0, 1]) / 2 + each[1, 0]) / 2
    assert scores.base == pytest.approx(expected)
    interval = scores.steps[0].interval
    assert interval is not None and interval.delta == pytest.approx(scores.steps[0].delta)


def test_rows_of_several_windows_are_their_maximum() -> None:
    windows = singing()
    files = windows.file
    truth = np.array([windows.targets[files == f].any(axis=0) for f in range(12)])
    rows = tuple(f"f{i}" for i in range(12))
    pooled = replace(windows, row=files, rows=rows, targets=truth, group={r: r for r in rows})
    highest = np.array([windows.probs[files == f].max(axis=0) for f in range(12)])
    steps = parse_steps(["power:3", "lift_runs", "file_scale:2", "smooth"])
    scores = score_steps({(0, 0): pooled}, steps, n_draws=100)
    assert scores.base == pytest.approx(padded_cmap(truth, highest))
    power, lift, scale, smooth, chain = scores.steps
    assert all(step.unchanged and step.delta == 0 for step in (power, lift, scale))
    assert "of whole files" in scale.unchanged and "of whole files" not in power.unchanged
    assert not smooth.unchanged and not chain.unchanged
    assert describe_post(scores)[1] == f"lift_runs {lift.unchanged}."
    once = score_steps({(0, 0): windows}, steps[:3], n_draws=100)
    assert [bool(step.unchanged) for step in once.steps] == [True, False, False, False]


def test_overlapping_windows_are_averaged_as_predict_does() -> None:
    windows = singing(n_windows=19, hop_s=2.5)
    grid = windows.row >= 0
    averaged = apply_steps(windows.probs, windows.file, windows.end_s, CODES, [AVERAGE])
    mean = averaged[grid]
    steps = parse_steps(["power", "shift_average", "again=shift_average:equal"])
    scores = score_steps({(0, 0): windows}, steps, n_draws=100)
    assert scores.base == pytest.approx(padded_cmap(windows.targets, mean))
    power, averaged, equal, _ = scores.steps
    assert not power.unchanged and power.delta != 0, "before the average it is not harmless"
    assert averaged.delta == 0 and "averaged so in any case" in averaged.unchanged
    assert equal.delta != 0
    after = parse_steps(["shift_average", "power"])
    chain = score_steps({(0, 0): windows}, after, n_draws=100).steps[-1]
    assert chain.unchanged and chain.delta == 0, "and after it, it is"


def test_what_cannot_be_scored_is_refused() -> None:
    cells = {(0, 0): singing()}
    with pytest.raises(SpecError, match="unknown metric"):
        score_steps(cells, parse_steps(["smooth"]), "top1")
    with pytest.raises(SpecError, match="no step"):
        score_steps(cells, [])
    with pytest.raises(SpecError, match="species that are no classes: wrem"):
        score_steps(cells, parse_steps(["smooth:species=[wrem]"]))
    with pytest.raises(BirdlabError, match="no overlapping windows"):
        score_steps(cells, parse_steps(["shift_average"]))


def test_a_power_that_float32_cannot_hold_is_not_said_to_be_harmless() -> None:
    faint = singing()
    faint = replace(faint, probs=(faint.probs * 1e-4).astype(np.float32))
    square, tenth = (
        score_steps({(0, 0): faint}, parse_steps([f"power:{n}"]), n_draws=100).steps[0]
        for n in (2, 10)
    )
    assert square.delta == 0 and square.unchanged
    assert tenth.delta < 0 and not tenth.unchanged and tenth.interval is not None


def test_few_files_have_no_interval() -> None:
    scores = score_steps({(0, 0): singing(3)}, parse_steps(["smooth", "boost"]))
    assert all(step.interval is None and not step.unchanged for step in scores.steps)
    said = describe_post(scores)
    assert said[0].startswith("3 files: too few") and scores.choice is None
    assert said[-1].startswith("Too few files")


def test_weighted_auc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    targets = np.c_[rng.random((30, 3)) < 0.4, np.zeros(30, bool), np.ones(30, bool)]
    probs = (rng.integers(0, 6, targets.shape) / 6).astype(np.float32)
    weights = np.c_[np.ones(30), rng.exponential(size=(30, 3))]
    found = weighted_aucs(targets, probs, weights)
    assert found.shape == (5, 4) and np.isnan(found[3:]).all()
    for c, d in np.ndindex(3, 4):
        expected = roc_auc_score(targets[:, c], probs[:, c], sample_weight=weights[:, d])
        assert found[c, d] == pytest.approx(expected)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """A step whose worth over endless files is known: how often 20 files contain it."""
    steps, held, n = parse_steps(["smooth"]), 0, 40
    true = score_steps({(0, 0): singing(1500, seed=99)}, steps, "macro_auc", n_draws=1).steps[0]
    for seed in range(n):
        cells = {(0, 0): singing(20, seed=seed)}
        interval = score_steps(cells, steps, "macro_auc", n_draws=100).steps[0].interval
        assert interval is not None
        held += interval.low <= true.delta <= interval.high
    assert 0.85 <= held / n <= 1


# ---------------------------------------------------------------- choosing among several


def noise_table(rng: np.random.Generator, n_files: int = 12) -> FoldTable:
    targets = np.random.default_rng(1).random((n_files * 5, 3)) < 0.3
    probs = (0.5 * rng.random(targets.shape) + 0.2 * targets).astype(np.float32)
    names = tuple(f"f{i // 5} {i}" for i in range(len(targets)))
    return FoldTable(names, CODES[:3], np.zeros(len(targets), np.int64), targets, probs)


def test_the_best_of_many_that_are_alike_is_no_better_elsewhere() -> None:
    """Six candidates of equal worth: what the choice gains where it was made it loses elsewhere."""
    there, elsewhere = [], []
    for seed in range(12):
        rng = np.random.default_rng([7, seed])
        tables = {name: {(0, 0): noise_table(rng)} for name in (NONE, *"abcdef")}
        group = {name: name.split()[0] for name in tables[NONE][0, 0].recordings}
        found = choose_on_halves(tables, group, "macro_auc", seed=seed)
        assert found is not None and sum(found.chosen.values()) == found.n_halves == 20
        there.append(found.gain_there)
        elsewhere.append(found.gain_elsewhere)
    assert np.mean(there) > 0.03 > abs(np.mean(elsewhere))  # two standard errors of twelve draws


def test_a_step_that_helps_is_chosen_and_helps_elsewhere() -> None:
    scores = score_steps({(0, 0): singing(20)}, parse_steps(["smooth", "clip_range:[0.4,0.5]"]))
    assert scores.choice is not None
    assert next(iter(scores.choice.chosen)) == "smooth" and scores.choice.gain_elsewhere > 0.03
    said = describe_post(scores)
    assert "3 were tried on the same files: the best of several looks better" in said[1]
    assert "on the other half; the most frequent choice is smooth" in said[2]


def test_one_step_alone_is_no_choice() -> None:
    scores = score_steps({(0, 0): singing()}, parse_steps(["smooth", "power"]), n_draws=100)
    assert scores.choice is not None, "smooth, and smooth with power"
    only = score_steps({(0, 0): singing()}, parse_steps(["smooth"]), n_draws=100)
    assert only.choice is None and not [s for s in describe_post(only) if "were tried" in s]
    few = {NONE: {(0, 0): noise_table(np.random.default_rng(0), MIN_GROUPS - 1)}}
    group = {name: name.split()[0] for name in few[NONE][0, 0].recordings}
    assert choose_on_halves(few, group, "padded_cmap") is None


# ---------------------------------------------------------------- stored windows


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Labels of three soundscapes, which may judge models, and the same for a leaderboard."""
    root = tmp_path_factory.mktemp("post")
    (root / "scapes").mkdir()
    labels = [("a.ogg", 1, 4, "kite"), ("a.ogg", 8, 14, "rook"), ("b.ogg", 0, 10, "wren"),
              ("c.ogg", 6, 9, "owl"), ("c.ogg", 6, 9, "a strange bird")]  # fmt: skip
    table = pd.DataFrame(labels, columns=["filename", "start_s", "end_s", "label"])
    table.to_csv(root / "scapes" / "labels.csv", index=False)
    scapes = 'kind = "soundscapes"\npath = "scapes"\nannotations = "labels.csv"\n'
    extension = Path(__file__).parents[1] / "experiments" / "extensions" / "minus_median.py"
    (root / "birdlab.toml").write_text(
        f'extensions = ["{extension}"]\n'
        f'[data.scapes]\n{scapes}split = "train"\n[data.board]\n{scapes}split = "public"\n'
    )
    return open_lab(root)


def predicted(names: str = "abcx", hop_s: float = 5.0, n_rows: int = 3) -> pd.DataFrame:
    """What `birdlab predict` writes beside its CSV."""
    n = round((n_rows - 1) * 5 / hop_s) + 1
    parts = []
    for name in names:
        end_s = 5 + hop_s * np.arange(n)
        part = pd.DataFrame({"row_id": [f"{name}_{e:g}" for e in end_s], "file": f"{name}.ogg"})
        parts.append(part.assign(end_s=end_s))
    table = pd.concat(parts, ignore_index=True)
    rng = np.random.default_rng(0)
    return table.assign(**{c: rng.random(len(table)).astype(np.float32) for c in CODES})


TRUTH = {"a": ["kite", "rook", "rook"], "b": ["wren", "wren", ""], "c": ["", "owl", ""]}


@pytest.mark.parametrize("hop_s", [5.0, 2.5])
def test_windows_of_predict_meet_the_labels_of_their_files(
    lab: Lab, tmp_path: Path, hop_s: float
) -> None:
    table = predicted(hop_s=hop_s).sample(frac=1, random_state=0)
    table.to_parquet(tmp_path / "s.windows.parquet", index=False)
    evidence = predicted_windows(lab, tmp_path / "s.windows.parquet", "scapes")
    windows = evidence.cells[0, 0]
    assert windows.rows == tuple(
        f"scapes/{f}.ogg {row}" for f in "abc" for row in name_windows(f"{f}.ogg", 3, 5.0)
    )
    marks = [[code == heard for code in CODES] for f in "abc" for heard in TRUTH[f]]
    assert windows.targets.tolist() == marks
    assert set(windows.group.values()) == {"scapes/a.ogg", "scapes/b.ogg", "scapes/c.ogg"}
    ordered = table[table["file"] != "x.ogg"].sort_values(["file", "end_s"])
    np.testing.assert_array_equal(windows.probs, ordered[list(CODES)].to_numpy())
    said = " ".join(evidence.notes)
    assert "1 file without labels: x" in said and "no class: a strange bird" in said


@pytest.mark.parametrize(
    ("change", "on", "said"),
    [
        (lambda t: t.drop(columns="end_s"), "scapes", "does not hold the probabilities"),
        (lambda t: t[["row_id", "file", "end_s"]], "scapes", "does not hold the probabilities"),
        (lambda t: t.iloc[:0], "scapes", "does not hold the probabilities"),
        (lambda t: t.assign(end_s="late"), "scapes", "does not hold the probabilities"),
        (lambda t: t.assign(end_s=np.nan), "scapes", "does not hold the probabilities"),
        (lambda t: t.assign(wren=np.nan), "scapes", "not a probability"),
        (lambda t: t.assign(wren="high"), "scapes", "does not hold the probabilities"),
        (lambda t: t[t["file"] == "x.ogg"], "scapes", "no file of the windows"),
        (lambda t: t[(t["file"] != "b.ogg") | (t["end_s"] > 5)], "scapes", "of b.ogg are missing"),
        (lambda t: t.drop(1), "scapes", "windows of a.ogg are missing"),
        (lambda t: t.rename(columns={c: f"{c}2" for c in CODES}), "scapes", "no label of"),
        (lambda t: t, "board", "stand for its leaderboard"),
        (lambda t: t, "nowhere", "nowhere"),
    ],
)
def test_windows_that_do_not_fit_are_refused(
    lab: Lab, tmp_path: Path, change: Any, on: str, said: str
) -> None:
    change(predicted()).to_parquet(tmp_path / "s.windows.parquet", index=False)
    with pytest.raises(BirdlabError, match=said):
        evidence = predicted_windows(lab, tmp_path / "s.windows.parquet", on)
        score_steps(evidence.cells, parse_steps(["smooth"]))


def test_a_file_that_is_no_parquet_is_refused(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "s.windows.parquet").write_text("row_id,file")
    with pytest.raises(DataError, match="cannot be read"):
        predicted_windows(lab, tmp_path / "s.windows.parquet", "scapes")
    with pytest.raises(DataError, match="no such file of windows"):
        predicted_windows(lab, tmp_path / "gone.windows.parquet", "scapes")


def test_the_recordings_of_a_run_score_as_its_record_says(trained_lab: Path) -> None:
    lab = open_lab(trained_lab)
    (record,) = load_records(lab)
    evidence = held_out_windows(lab, record)
    for metric in ("padded_cmap", "macro_auc"):
        scores = score_steps(evidence.cells, parse_steps(["power"]), metric, n_draws=100)
        assert scores.base == pytest.approx(record["scores"][f"cv/{metric}"])
        assert scores.steps[0].delta == 0
        assert scores.n_rows == record["evaluation"]["n_rows"]
    assert evidence.group == "recordist"
    assert "are not soundscapes" in evidence.notes[0]


def test_steps_for_other_species_are_not_promoted(trained_lab: Path) -> None:
    lab = open_lab(trained_lab)
    (record,) = load_records(lab)
    fitting = tuple(to_mappings(parse_steps(["smooth"])))
    assert open_case(lab, [record], PromotionRequest(post=fitting)).request.post == fitting
    strange = tuple(to_mappings(parse_steps(["smooth:species=[dodo]"])))
    with pytest.raises(SpecError, match="no classes: dodo"):
        open_case(lab, [record], PromotionRequest(post=strange))


# ---------------------------------------------------------------- the command


def test_the_command_scores_and_writes_the_chain(lab: Lab, tmp_path: Path) -> None:
    windows = tmp_path / "s.windows.parquet"
    predicted().to_parquet(windows, index=False)
    words = ["post", str(windows), "--on", "scapes", "--step", "smooth:[1,2,1]", "--step", "power"]
    text = call(lab, *words, "-o", str(tmp_path / "chain.json"))
    lines = text.splitlines()
    assert lines[0] == "padded_cmap on 9 rows of 3 files"
    assert lines[2].split()[0] == "none" and lines[3].split()[0] == "smooth:weights=[1,2,1]"
    assert lines[4].endswith("+0.0000  cannot change it")
    assert "power cannot change padded_cmap: it keeps the order within every class." in lines
    assert lines[5].split()[:3] == ["the", "whole", "chain"]
    assert (
        lines[-1]
        == f"wrote {tmp_path}/chain.json: birdlab predict ... --post {tmp_path}/chain.json"
    )
    chain = to_mappings(load_steps(tmp_path / "chain.json"))
    assert chain == [{"kind": "smooth", "weights": [1, 2, 1]}, {"kind": "power", "exponent": 2}]
    (tmp_path / "steps.yaml").write_text("steps:\n  - smooth: [1, 2, 1]\n  - power\n")
    shown = [str(windows), "--on", "scapes", "--steps", str(tmp_path / "steps.yaml"), "--json"]
    found = json.loads(call(lab, "post", *shown))
    assert [f"{step['score']:.4f}" for step in found["steps"][:2]] == [
        line.split()[1] for line in lines[3:5]
    ]
    assert found["metric"] == "padded_cmap" and found["said"]


@pytest.mark.parametrize("hop_s", [5.0, 2.5])
def test_stored_windows_become_a_submission(lab: Lab, tmp_path: Path, hop_s: float) -> None:
    table = predicted(hop_s=hop_s)
    table.to_parquet(tmp_path / "s.windows.parquet", index=False)
    words = ["post", str(tmp_path / "s.windows.parquet"), "--step", "smooth", "--submission"]
    text = call(lab, *words, str(tmp_path / "sub.csv"))
    assert text == f"wrote {tmp_path}/sub.csv: 12 rows after 1 step\n"
    written = pd.read_csv(tmp_path / "sub.csv")
    files, _ = pd.factorize(table["file"])
    steps = [{"kind": "smooth", "weights": [0.25, 0.5, 0.25]}]
    probs = apply_steps(table[list(CODES)], files, table["end_s"], CODES, steps)
    if hop_s < 5:
        probs = apply_steps(probs, files, table["end_s"], CODES, [AVERAGE])
    kept = (table["end_s"] % 5 == 0).to_numpy()
    assert written["row_id"].tolist() == table["row_id"][kept].tolist()
    np.testing.assert_allclose(written[list(CODES)], probs[kept], atol=1e-6)
    chain = [str(tmp_path / "again.csv"), "--json", "-o", str(tmp_path / "chain.json")]
    assert len(json.loads(call(lab, *words, *chain))["wrote"]) == 2
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "sub.csv").read_bytes()
    assert to_mappings(load_steps(tmp_path / "chain.json")) == steps


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--submission", "s.windows.parquet"], "written over"),
        (["--submission", "s.csv", "--sample", "s.csv"], "written over"),
        (["--submission", "."], "written over a folder"),
        (["--submission", "s.windows.parquet/s.csv"], "cannot be written"),
        (["--submission", "s.csv", "-o", "chain.yaml"], "written as JSON"),
        (["--on", "scapes", "--sample", "s.csv"], "--sample orders a submission"),
    ],
)
def test_what_is_written_takes_the_place_of_nothing_that_is_read(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    predicted().to_parquet("s.windows.parquet", index=False)
    shown = ["--lab", str(lab.root), "post", "s.windows.parquet", "--step", "smooth", *words]
    done = CliRunner().invoke(cli.app, shown)
    assert isinstance(done.exception, BirdlabError) and said in str(done.exception)
    pd.testing.assert_frame_equal(pd.read_parquet("s.windows.parquet"), predicted())


def test_the_command_takes_a_run_and_a_kind_of_an_extension(
    lab: Lab, trained_lab: Path, tmp_path: Path
) -> None:
    text = call(open_lab(trained_lab), "post", "tiny", "--step", "smooth", "--draws", "100")
    assert "recordists, mean of" in text and "are not soundscapes" in text
    predicted().to_parquet(tmp_path / "s.parquet", index=False)
    own = call(
        lab, "post", str(tmp_path / "s.parquet"), "--on", "scapes", "--step", "minus_median:1"
    )
    assert own.splitlines()[3].split()[0] == "minus_median:share=1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny"], "not clear which steps"),
        (["tiny", "--step", "smooth", "--steps", "s.yaml"], "not clear which steps"),
        (["tiny", "--step", "smoth"], "did you mean 'smooth'"),
        (["tiny", "--step", "smooth", "--metric", "top1"], "unknown value of --metric"),
        (["tiny", "--step", "smooth", "--on", "soundscapes"], "no stored outputs on labelled"),
        (["w.parquet", "--step", "smooth"], "not clear which soundscapes"),
        (["nobody", "--step", "smooth"], "nobody"),
        (["tiny", "--step", "smooth", "--submission", "s.csv"], "a submission is made of windows"),
    ],
)
def test_the_command_says_what_is_wrong(trained_lab: Path, words: list[str], said: str) -> None:
    done = CliRunner().invoke(cli.app, ["--lab", str(trained_lab), "post", *words])
    assert isinstance(done.exception, BirdlabError) and said in str(done.exception)

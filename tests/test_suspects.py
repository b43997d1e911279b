"""Label suspects: what is listed and what is not, when there is no evidence, and the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from commandline import run_main
from conftest import MakeLab
from scipy.special import expit, logit
from suspect_simulations import SEED, Drawn, World, draw_world, simulate
from test_study_tables import build_synthetic

import birdlab
from birdlab.evaluate.evidence import FoldTable
from birdlab.lab import Lab
from birdlab.plan import plan_experiment
from birdlab.recorded import load_record
from birdlab.spec import load_spec
from birdlab.study.suspect_evidence import Truth, weigh_labels
from birdlab.study.suspect_view import MOST_RUNS, build_suspects_view
from birdlab.study.suspect_words import NO_PROOF
from birdlab.study.suspects import COLUMNS, find_suspects
from dashboards.source import LabSource
from dashboards.species import _show, build_static

Command = Callable[..., tuple[int, str, str]]


def test_no_run_is_no_evidence() -> None:
    found = find_suspects({})
    assert not found.enough and found.table.empty and list(found.table) == list(COLUMNS)
    assert found.sentences[0].startswith("Not enough evidence for label suspects: 0 of at least 3")


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """A simulated data set of which the wrong labels are known."""
    return draw_world(World(), np.random.default_rng(SEED))


def test_wrong_labels_come_first(drawn: Drawn) -> None:
    found = find_suspects(drawn.tables)
    assert found.enough and list(found.table) == list(COLUMNS)
    wrong = found.table["filename"].isin(drawn.wrong)
    assert wrong.head(10).sum() >= 6 and wrong.sum() >= 0.5 * len(drawn.wrong)
    assert (found.table["n_wrong"] == found.table["n_models"]).all()
    assert set(found.table["n_models"]) == {8}
    assert found.table["suspicion"].is_monotonic_decreasing and (found.table["suspicion"] > 0).all()
    said = f"All 8 models get {len(found.table)} recordings of 250 wrong; one model by itself gets "
    assert found.sentences[0].startswith(said) and found.sentences[1] == NO_PROOF


def test_twice_as_many_wrong_labels_are_found_as_by_the_loss_of_one_network() -> None:
    found = simulate(World(), 8)
    assert found.enough == 1 and found.first_k > 1.4 * found.by_loss > 2 * found.by_chance


def test_scales_of_classes_and_networks_change_nothing(drawn: Drawn) -> None:
    def squeeze(table: FoldTable, seed: int) -> FoldTable:
        scales = np.linspace(0.5, 0.9, len(table.codes)) * (1 - seed / 4)
        logits = logit(table.probs.astype(np.float64)) * scales + np.arange(len(table.codes)) / 4
        return replace(table, probs=expit(logits))

    other = {
        name: {(f, s): squeeze(table, s) for (f, s), table in run.items()}
        for name, run in drawn.tables.items()
    }
    one, same = find_suspects(drawn.tables).ranked, find_suspects(other).ranked
    shown = ["filename", "n_wrong", "n_models", "heard_instead", "n_instead"]
    pd.testing.assert_frame_equal(one[shown], same[shown])
    assert np.allclose(one["suspicion"], same["suspicion"], atol=1e-3)


def test_a_secondary_label_that_is_heard_is_no_mistake(drawn: Drawn) -> None:
    first = find_suspects(drawn.tables).table.iloc[0]

    def name_it(table: FoldTable) -> FoldTable:
        targets = table.targets.copy()
        if first["filename"] in table.recordings:
            row = table.recordings.index(first["filename"])
            targets[row, table.codes.index(first["heard_instead"])] = True
        return replace(table, targets=targets)

    named = {n: {cell: name_it(t) for cell, t in run.items()} for n, run in drawn.tables.items()}
    after = find_suspects(named).ranked.set_index("filename").loc[first["filename"]]
    assert after["suspicion"] < first["suspicion"]
    assert after["heard_instead"] != first["heard_instead"]


def test_rare_and_unknown_classes_are_not_judged_and_said() -> None:
    drawn = draw_world(replace(World(), n_runs=3, n_seeds=1), np.random.default_rng(1))

    def spoil(table: FoldTable) -> FoldTable:
        probs = table.probs.copy()
        probs[:, 1] = 0.5
        relabelled = np.where(table.primary == 11, 0, table.primary)
        kept = np.flatnonzero(table.primary == 11)[:1]
        relabelled[kept] = 11
        targets = relabelled[:, None] == np.arange(len(table.codes))
        return replace(table, probs=probs, primary=relabelled, targets=targets)

    spoilt = {n: {cell: spoil(t) for cell, t in run.items()} for n, run in drawn.tables.items()}
    found = find_suspects(spoilt)
    why = dict(zip(found.unjudged["code"], found.unjudged["why"], strict=True))
    assert why == {"s01": "the models do not know it", "s11": "too few recordings"}
    assert not set(found.ranked["primary_label"]) & set(why)
    assert not set(found.ranked["heard_instead"]) & set(why)
    assert "Not judged, too few recordings: s11 (3)." in found.sentences
    assert "All models have the seed 0: another one would say more." in found.sentences


def test_too_little_evidence_is_said_and_lists_nothing(drawn: Drawn) -> None:
    two = find_suspects({"run": drawn.tables["run 0"]})
    assert not two.enough and two.table.empty and len(two.ranked) == 250
    assert two.sentences[0] == (
        "Not enough evidence for label suspects: 2 of at least 3 models know the classes."
    )
    deaf = draw_world(replace(World(), gap=0.2), np.random.default_rng(2)).tables
    none = find_suspects(deaf)
    assert not none.enough and none.table.empty and len(none.poor) + len(none.models) == 8
    little = find_suspects(draw_world(replace(World(), gap=1), np.random.default_rng(3)).tables)
    assert not little.enough and "more than 70 %" in little.sentences[0]


def test_networks_near_chance_do_not_judge(drawn: Drawn) -> None:
    deaf = draw_world(replace(World(), gap=0), np.random.default_rng(SEED)).tables["run 0"]
    with_them = find_suspects({**drawn.tables, "deaf": deaf})
    assert with_them.poor == (("deaf", 0), ("deaf", 1)) and len(with_them.models) == 8
    pd.testing.assert_frame_equal(with_them.table, find_suspects(drawn.tables).table)
    assert "deaf seed 0, deaf seed 1 do not judge: near chance on these classes." in (
        with_them.sentences
    )


def test_networks_that_speak_for_two_runs_judge_once(drawn: Drawn) -> None:
    """As those of an arm that differs in post-processing alone: one network is no two witnesses."""
    run = drawn.tables["run 0"]
    cells = {cell: f"cell {cell}" for cell in run}
    assert find_suspects({"a": run, "smooth": run}).enough, "nothing says that they are the same"
    same = find_suspects({"a": run, "smooth": run}, {"a": cells, "smooth": cells})
    assert same.models == (("a", 0), ("a", 1)) and not same.enough
    said = "smooth seed 0, smooth seed 1 do not judge: the same networks judge already, in another"
    assert f"{said} run." in same.sentences
    one = {**cells, **{(fold, 1): f"own {fold}" for fold in range(3)}}
    mixed = find_suspects({"a": run, "more": run}, {"a": cells, "more": one})
    assert mixed.models == (("a", 0), ("a", 1), ("more", 1))


def test_a_run_of_one_fold_does_not_hide_the_others(drawn: Drawn) -> None:
    """As an arm that a race stopped: the rows are those of the run with most."""
    stopped = {cell: t for cell, t in drawn.tables["run 1"].items() if cell[0] == 0}
    found = find_suspects({"stopped": stopped, **drawn.tables})
    assert len(found.ranked) == 250 and set(found.ranked["n_models"]) == {8, 10}


def test_a_run_of_other_rows_and_classes_judges_what_it_knows(drawn: Drawn) -> None:
    whole = drawn.tables["run 0"]
    columns = np.arange(11, -1, -1)[:10]  # another order, without the two most frequent classes

    def cut(table: FoldTable) -> FoldTable:
        rows = np.flatnonzero(np.isin(table.primary, columns))[::-1]
        place = {c: i for i, c in enumerate(columns)}
        return FoldTable(
            tuple(table.recordings[r] for r in rows),
            tuple(table.codes[c] for c in columns),
            np.array([place[c] for c in table.primary[rows]]),
            table.targets[np.ix_(rows, columns)],
            table.probs[np.ix_(rows, columns)],
        )

    part = {cell: cut(table) for cell, table in whole.items()}
    ranked = find_suspects({"a": whole, "b": part, "c": whole}).ranked.set_index("filename")
    fewer = ranked["primary_label"].isin(["s00", "s01"])
    assert (ranked.loc[fewer, "n_models"] == 4).all() and (
        ranked.loc[~fewer, "n_models"] == 6
    ).all()


def test_evidence_is_that_of_two_normal_distributions() -> None:
    truth = Truth(
        ("a", "b", "c", "d"),
        np.zeros(4, int),
        ("x", "y"),
        np.array([0, 0, 1, 1]),
        np.eye(2, dtype=bool)[[0, 0, 1, 1]],
    )
    logits = np.array([[2.0, -1], [1, -3], [-2, 1], [-1, 3]])
    got = weigh_labels(truth, expit(logits))
    for row in range(4):
        for c in range(2):
            own = truth.primary == c
            with_it, without = (
                np.delete(logits[:, c], row)[np.delete(of, row)].mean() for of in (own, ~own)
            )
            within = (logits[own, c].var() + logits[~own, c].var()) / 2
            far, near = ((logits[row, c] - mean) ** 2 / (2 * within) for mean in (without, with_it))
            assert np.isclose(got[row, c], far - near)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """A function that runs a command in the folder of a lab: exit code, output, errors."""

    def call(lab: Lab, *args: str) -> tuple[int, str, str]:
        monkeypatch.chdir(lab.root)
        monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
        return run_main(capsys, monkeypatch, *args)

    return call


@pytest.fixture
def judged(make_lab: MakeLab, cli: Command) -> tuple[Lab, str, str]:
    """A lab with three foreign models that hear another class in a recording; both names."""
    lab = make_lab(trained=True)
    oof = birdlab.load_oof("tiny", lab).drop_duplicates("recording")
    labels = oof["primary_label"]
    first, second = labels.value_counts().index[:2]
    wrong = str(oof.loc[labels == first, "recording"].iloc[0])
    codes = [name.removeprefix("prob/") for name in oof.filter(like="prob/")]
    rng = np.random.default_rng(0)
    parts = []
    for seed in range(3):
        probs = {c: np.where(labels == c, 0.8, 0.1) + rng.uniform(0, 0.1, len(oof)) for c in codes}
        table = oof[["recording", "fold"]].assign(seed=seed, **probs)
        table.loc[table["recording"] == wrong, [first, second]] = [0.11, 0.88]
        parts.append(table)
    pd.concat(parts).to_csv(lab.root / "oof.csv", index=False)
    code, _, errors = cli(lab, "import", "--oof", "oof.csv", "--name", "ears", "--like", "tiny")
    assert code == 0, errors
    return lab, wrong, str(second)


def test_the_command_writes_a_list_that_drops_exactly_these(
    judged: tuple[Lab, str, str], cli: Command
) -> None:
    lab, wrong, instead = judged
    written = ("--csv", "lists/suspects.csv", "--html", "listen.html")
    code, told, errors = cli(lab, "suspects", "ears", *written)
    assert code == 0, errors
    assert "All 3 models get 1 recording of" in told and wrong in told
    assert "data: {clean: [{exclude: lists/suspects.csv}]}" in told
    listed = pd.read_csv(lab.root / "lists/suspects.csv")
    assert list(listed) == list(COLUMNS) and list(listed["filename"]) == [wrong]
    assert list(listed["heard_instead"]) == [instead]
    page = (lab.root / "listen.html").read_text()
    assert "<audio" in page and wrong in page and "spectrogram of" in page
    shown = _show(LabSource(lab), {"run": "", "other": ""}).content
    assert f"{wrong}: labelled" in str(shown) and "/listen?run=" in str(shown)
    assert "Labels that every model contradicts" in build_static(LabSource(lab))
    spec = load_spec(lab.root / "tiny.yaml")
    clean = load_spec(lab.root / "tiny.yaml", ["data.clean=[{exclude: lists/suspects.csv}]"])
    before, after = (set(plan_experiment(s, lab).data.rows["recording"]) for s in (spec, clean))
    assert before - after == {wrong} and after < before


def test_the_command_as_json_and_without_evidence(
    judged: tuple[Lab, str, str], cli: Command
) -> None:
    lab, wrong, _ = judged
    told = json.loads(cli(lab, "suspects", "ears", "tiny", "--json")[1])
    assert told["enough"] and [row["filename"] for row in told["suspects"]] == [wrong]
    assert len(told["judges"]) + len(told["near_chance"]) == 4 and set(told["runs"]) == {
        "ears",
        "tiny",
    }
    code, alone, _ = cli(lab, "suspects", "tiny", "--csv", "none.csv")
    assert code == 0 and "Not enough evidence for label suspects" in alone
    assert list(pd.read_csv(lab.root / "none.csv")) == list(COLUMNS)
    assert "exclude" not in alone
    code, _, errors = cli(lab, "suspects", "ears", "--csv", "tiny.yaml/list.csv")
    assert code == 1 and "a file cannot be written" in errors
    shutil.rmtree(lab.cells / load_record(lab, told["runs"]["tiny"])["cells"][0]["cell_id"])
    shown = cli(lab, "suspects", "ears", "tiny")[1]
    assert "All 3 models get 1 recording" in shown and "tiny does not judge: " in shown
    assert cli(lab, "suspects", "tiny")[0] == 1
    code, _, errors = cli(lab, "suspects")
    assert code == 1 and "birdlab suspects --sweep NAME" in errors


def test_a_page_asks_the_runs_on_the_same_rows_and_names_what_is_gone(drawn: Drawn) -> None:
    tables = build_synthetic(12)
    newest = list(tables.runs["run"])[::-1]
    held = dict(zip(newest[:4], drawn.tables.values(), strict=True))
    view = build_suspects_view(tables, lambda run: held.get(run, {}), newest[0])
    assert list(view.runs) == newest[:4]
    assert len(view.suspects.models) == 8 and len(view.suspects.table) > 10
    assert sum("are gone" in sentence for sentence in view.sentences) == MOST_RUNS - 4
    assert view.command == f"birdlab suspects {' '.join(newest[:4])} --csv lists/suspects.csv"

"""Weights of members: scores against brute force, nested fits, shrinkage, the greedy choice."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commandline import print_of
from fold_tables import build_tables
from test_ensemble import build_record

from birdlab.errors import BirdlabError, DataError, OutputsError, PromotionError, SpecError
from birdlab.evaluate.blends import Blend, blend_members, class_shares
from birdlab.evaluate.metrics import clamp_probs, macro_auc, padded_cmap
from birdlab.infer.budget import Workload, predict_minutes
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.promote.member_costs import limit_members
from birdlab.promote.request import parse_blend
from birdlab.spec import load_spec
from birdlab.spec.ensemble import load_ensemble
from birdlab.study.blending import compare_blends, fit_shares
from birdlab.study.blending_scores import METRICS, build_scorer
from birdlab.study.blending_search import search_weights
from birdlab.study.ensemble import Members, align_members, judge_ensemble, weigh_members
from birdlab.study.ensemble_summary import EnsembleQuestion
from birdlab.study.greedy import select_greedy
from birdlab.upkeep.foreign import import_foreign

BLENDS = (Blend(), Blend("power", 2), Blend("power", 3.5), Blend("geometric"), Blend("rank"))
SCORES = {"padded_cmap": padded_cmap, "macro_auc": macro_auc}


def draw_members(
    skills: tuple[float, ...], *, n: int = 300, classes: int = 6, folds: int = 5, seed: int = 0
) -> Members:
    """Members whose logits are lifted by `skills` where a label is, with noise of their own and
    noise that they share."""
    rng = np.random.default_rng(seed)
    targets = np.zeros((n, classes), bool)
    targets[np.arange(n), rng.integers(0, classes, n)] = True
    targets |= rng.random((n, classes)) < 0.03
    shared = rng.standard_normal((n, classes))
    own = rng.standard_normal((len(skills), n, classes))
    logits = np.asarray(skills)[:, None, None] * targets - 4 + 1.5 * shared + 1.5 * own
    return Members(
        tuple(f"m{i}" for i in range(len(skills))),
        tuple(f"r{i}" for i in range(n)),
        tuple(f"c{i}" for i in range(classes)),
        np.sort(np.arange(n) % folds),
        targets,
        clamp_probs(1 / (1 + np.exp(-logits))),
        (),
        np.ones((len(skills), classes), bool),
    )


def brute_folds(members: Members, weights: Any, blend: Blend, metric: str) -> list[float]:
    """The score of each fold from whole tables."""
    shares = list(class_shares(weights, members.known))
    scores = []
    for fold in np.unique(members.fold):
        rows = members.fold == fold
        probs = blend_members([own[rows].astype(float) for own in members.probs], blend, shares)
        scores.append(SCORES[metric](members.targets[rows], clamp_probs(probs)))
    return scores


def without_fold(members: Members, fold: int) -> Members:
    rows = members.fold != fold
    return replace(
        members,
        recordings=tuple(np.asarray(members.recordings)[rows]),
        fold=members.fold[rows],
        targets=members.targets[rows],
        probs=members.probs[:, rows],
    )


# ---------------------------------------------------------------- scores at any weights


@pytest.mark.parametrize("seed", range(12))
def test_scores_of_blends_against_whole_tables(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_members, n, classes = int(rng.integers(1, 5)), int(rng.integers(8, 60)), 5
    members = draw_members((2.0,) * n_members, n=n, classes=classes, folds=2, seed=seed)
    members.targets[:2], members.targets[-2:] = [[True], [False]], [[True], [False]]
    digits = int(rng.integers(1, 7))  # few digits: ties, zeros, ones
    probs = clamp_probs(np.round(members.probs, digits))
    known = rng.random((n_members, classes)) < 0.7
    known[0] = True
    members = replace(members, probs=np.where(known[:, None], probs, 0), known=known)
    weights = rng.random(n_members) * (rng.random(n_members) < 0.7)
    weights[0] += 0.1
    for blend in BLENDS:
        for metric in METRICS:
            found = members.scorer(blend, metric).score_folds(weights)
            expected = brute_folds(members, weights, blend, metric)
            np.testing.assert_allclose(found, expected, atol=1e-9, err_msg=f"{blend} {metric}")


def test_a_class_that_no_weighted_member_knows_is_a_constant() -> None:
    members = draw_members((2.0, 2.0), n=60, folds=2)
    members.known[1, 0] = False
    only = members.scorer().score_folds([0, 1])
    flat = members.probs[1].copy()
    flat[:, 0] = 0
    rows = [members.fold == fold for fold in (0, 1)]
    expected = [padded_cmap(members.targets[own], flat[own]) for own in rows]
    np.testing.assert_allclose(only, expected)


def test_an_unknown_metric_is_refused() -> None:
    members = draw_members((1.0,), n=20, folds=2)
    with pytest.raises(OutputsError, match="cannot be fitted"):
        build_scorer(
            members.targets,
            members.probs,
            members.known,
            members.fold,
            Blend(),
            "top1",  # type: ignore[arg-type]
        )


# ---------------------------------------------------------------- fitted weights


def test_the_search_finds_what_a_fine_grid_finds() -> None:
    for seed, skills in enumerate([(3.0, 1.5), (2.0, 2.0), (3.0, 2.0, 0.0)]):
        scorer = draw_members(skills, seed=seed).scorer()
        folds = range(5)
        steps = np.linspace(0, 1, 17)
        grid = [np.array([a, *(b * (1 - a) for b in (c, 1 - c))]) for a in steps for c in steps]
        trials = [np.array([a, 1 - a]) for a in steps] if len(skills) == 2 else grid
        highest = max(scorer.score(weights, folds) for weights in trials)
        found = search_weights(scorer, folds)
        assert scorer.score(found, folds) >= highest - 0.001
        assert scorer.score(found, folds) >= scorer.score(np.ones(len(skills)), folds)
        assert (found == search_weights(draw_members(skills, seed=seed).scorer(), folds)).all()


def test_a_fit_is_nested() -> None:
    members = draw_members((3.0, 2.0, 1.0), n=200, folds=4)
    fitted = fit_shares(members, Blend("power", 2))
    scores = []
    for fold in range(4):
        others = fit_shares(without_fold(members, fold), Blend("power", 2))
        np.testing.assert_allclose(fitted.by_fold[fold], others.fitted)
        scores.append(brute_folds(members, others.fitted, Blend("power", 2), "padded_cmap")[fold])
    assert fitted.nested == pytest.approx(np.mean(scores))
    for weights, score in ((fitted.fitted, fitted.in_sample), ((1, 1, 1), fitted.equal)):
        brute = brute_folds(members, weights, Blend("power", 2), "padded_cmap")
        assert score == pytest.approx(np.mean(brute))
    assert fitted.in_sample >= max(fitted.equal, fitted.nested)
    assert f"{fitted.optimism:+.4f} of it is optimism" in fitted.sentences[0]


def test_a_bad_member_among_good_ones_is_found() -> None:
    for metric in METRICS:
        fitted = fit_shares(draw_members((3.0, 3.0, -1.0, 3.0)), Blend(), metric=metric)
        assert fitted.verdict == "better" and not fitted.shrunk
        assert fitted.weights == fitted.fitted and sum(fitted.weights) == pytest.approx(1)
        assert fitted.weights[2] < 0.03 and fitted.interval[0] > 0
        assert "The fitted weights are used" in fitted.sentences[-1]


def test_equal_members_keep_equal_weights() -> None:
    found = [fit_shares(draw_members((3.0,) * 4, n=150, seed=seed), Blend()) for seed in range(5)]
    assert sum(fitted.verdict == "better" for fitted in found) <= 1
    for fitted in found:
        assert fitted.shrunk == (fitted.verdict != "better")
        if fitted.shrunk:
            assert fitted.weights == (0.25,) * 4 and fitted.fitted != fitted.weights
            assert "shrunk to equal" in fitted.sentences[-1]
    assert np.mean([fitted.optimism for fitted in found]) > 0.001


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "n"), [("mean", 200), ("rank", 200), ("mean", 1000)])
def test_better_is_rarely_said_of_equal_members(kind: Any, n: int) -> None:
    verdicts = [
        fit_shares(draw_members((3.0,) * 4, n=n, seed=seed), Blend(kind)).verdict
        for seed in range(100)
    ]
    assert verdicts.count("better") <= 5


def test_too_few_folds_and_members_have_no_verdict() -> None:
    two = fit_shares(draw_members((3.0, 0.0), folds=2), Blend())
    assert two.verdict == "no verdict" and two.shrunk and "Under 3 folds" in two.sentences[-1]
    one = fit_shares(draw_members((3.0, 0.0), folds=1), Blend())
    assert np.isnan(one.nested) and one.weights == (0.5, 0.5) and "one fold" in one.sentences[0]
    alone = fit_shares(draw_members((3.0,)), Blend())
    assert alone.weights == (1.0,) and not alone.shrunk and "only member" in alone.sentences[0]


def test_blends_are_compared_with_the_mean() -> None:
    members = draw_members((3.0, 2.0))
    table = compare_blends(members, (3, 1), metric="macro_auc").table.set_index("arm")  # type: ignore[union-attr]
    for blend in (Blend(), Blend("power", 2), Blend("geometric"), Blend("rank")):
        expected = np.mean(brute_folds(members, (0.75, 0.25), blend, "macro_auc"))
        assert table.loc[str(blend), "mean"] == pytest.approx(expected)
    assert table.loc["mean", "verdict"] == "base"
    assert compare_blends(draw_members((3.0,))) is None
    gain = weigh_members(members, Blend("rank"), metric="macro_auc")
    alone = [np.mean(brute_folds(members, w, Blend("rank"), "macro_auc")) for w in np.eye(2)]
    assert gain["alone"].tolist() == pytest.approx(alone)
    ranking = judge_ensemble(members, Blend("geometric"))
    assert ranking is not None and ranking.base == "m0"


@pytest.mark.parametrize("text", ["median", "power:x", "power:0", "mean:2", "power:nan", ""])
def test_a_blend_is_a_word(text: str) -> None:
    assert parse_blend("power") == Blend("power", 2) and parse_blend("power:3") == Blend("power", 3)
    assert [parse_blend(b.kind) for b in (Blend(), Blend("rank"))] == [Blend(), Blend("rank")]
    with pytest.raises(BirdlabError):
        parse_blend(text)


# ---------------------------------------------------------------- other classes


def test_members_with_fewer_classes_are_blended_where_they_know() -> None:
    a, b = build_tables(), build_tables(run=1, codes=("wren", "robin", "owl", "nobody"))
    few = {
        key: replace(
            table,
            codes=("owl", "heron", "wren"),
            primary=np.zeros(len(table.recordings), np.int64),
            targets=table.targets[:, [2, 3, 0]],
            probs=table.probs[:, [2, 3, 0]],
        )
        for key, table in b.items()
    }
    members = align_members({"a": a, "few": few})
    assert members.codes == ("wren", "robin", "owl", "nobody")
    assert members.known.tolist() == [[True] * 4, [True, False, True, False]]
    assert (members.probs[1][:, [1, 3]] == 0).all() and (members.probs[1][:, 0] > 0).any()
    assert members.targets.sum() == sum(int(table.targets.sum()) for table in a.values())
    (note,) = (said for said in members.left_out if "does not know" in said)
    assert "few does not know 2 classes (robin, nobody)" in note
    assert not any("other labels" in said for said in members.left_out)
    scores = []
    for key, table in a.items():
        both = (table.probs.astype(float) + b[key].probs) / 2
        both[:, [1, 3]] = table.probs[:, [1, 3]]
        scores.append(padded_cmap(table.targets, both.astype(np.float32)))
    assert fit_shares(members, Blend()).equal == pytest.approx(np.mean(scores))


# ---------------------------------------------------------------- the greedy choice


def brute_path(
    members: Members, costs: list[float], budget: float, folds: list[int], again: bool
) -> list[int]:
    """Forward selection with whole tables."""
    path: list[int] = []
    value = 0.0
    while len(path) < 20:
        trials = {}
        for m in range(len(members.names)):
            trial = [*path, m]
            if (again or m not in path) and sum(costs[i] for i in set(trial)) <= budget:
                counts = np.bincount(trial, minlength=len(costs))
                scores = brute_folds(members, counts, Blend(), "padded_cmap")
                trials[m] = float(np.mean([scores[fold] for fold in folds]))
        if not trials or max(trials.values()) <= value + 1e-9:
            break
        best = max(trials, key=lambda m: trials[m])
        path, value = [*path, best], trials[best]
    return path


@pytest.mark.parametrize("again", [False, True])
def test_the_greedy_choice_against_whole_tables(again: bool) -> None:
    members = draw_members((2.5, 2.5, 2.0, 1.0), n=120, classes=4, folds=3, seed=4)
    costs, budget = [10.0, 9.0, 4.0, 1.0], 16.0
    choice = select_greedy(members, costs, budget, Blend(), replacement=again)
    path = brute_path(members, costs, budget, [0, 1, 2], again)
    assert choice.steps["member"].tolist() == [members.names[m] for m in path]
    nested = np.zeros((len(path), 3))
    for fold in range(3):
        own = brute_path(members, costs, budget, [f for f in range(3) if f != fold], again)
        for step in range(len(path)):
            counts = np.bincount(own[: step + 1], minlength=4)
            nested[step, fold] = brute_folds(members, counts, Blend(), "padded_cmap")[fold]
    assert choice.steps["nested"].tolist() == pytest.approx(nested.mean(axis=1).tolist())
    taken = int(np.argmax(nested.mean(axis=1))) + 1
    assert choice.chosen == tuple(members.names[m] for m in path[:taken])
    counts = np.bincount(path[:taken], minlength=4)
    assert choice.weights == pytest.approx((counts / taken).tolist())
    assert choice.steps["total_ms"].max() <= budget and choice.steps["verdict"].notna().all()
    assert any("winner's curse" in said for said in choice.sentences)


def test_a_limit_holds_or_is_refused() -> None:
    members = draw_members((3.0, 2.0, 1.0), n=100, folds=3)
    cheap = select_greedy(members, [50.0, 5.0, 4.0], 10.0, Blend())
    assert cheap.best == "m1" and "m0" not in cheap.chosen and cheap.weights[0] == 0
    free = select_greedy(members, [float("nan")] * 3, float("inf"), Blend())
    assert free.chosen[0] == "m0" and free.steps["cost_ms"].isna().all()
    for costs, limit, told in (
        ([50.0, 5.0, 4.0], 3.0, "no member fits"),
        ([float("nan"), 5.0, 4.0], 10.0, "is not known"),
        ([1.0, 2.0], 10.0, "do not fit"),
        ([1.0, 2.0, -1.0], 10.0, "do not fit"),
        ([1.0, 2.0, 3.0], 0.0, "do not fit"),
        ([1.0, 2.0, 3.0], float("nan"), "do not fit"),
    ):
        with pytest.raises(DataError, match=told):
            select_greedy(members, costs, limit, Blend())


def test_minutes_are_milliseconds_of_a_window_on_all_cores() -> None:
    record = build_record("a")  # 10 soundscapes of 12 s: 30 windows
    assert EnsembleQuestion(Blend(), minutes=1.0, cores=2).limit_ms(record) == 4000
    assert EnsembleQuestion(Blend(), budget_ms=7.0).limit_ms(record) == 7
    assert EnsembleQuestion(Blend()).limit_ms(record) == float("inf")


def test_a_choice_says_which_classes_it_does_not_know() -> None:
    members = draw_members((3.0, 0.0), n=100, folds=3)
    members.known[0, 2] = False
    choice = select_greedy(members, [1.0, 9.0], 5.0, Blend())
    assert choice.chosen == ("m0",) and "None of the chosen knows c2" in choice.sentences[-1]
    one = select_greedy(draw_members((3.0, 1.0), folds=1), [1.0, 1.0], 5.0, Blend())
    assert one.steps["nested"].isna().all() and "one fold" in one.sentences[-1]


def test_measured_costs_leave_room_for_decoding_and_front_ends() -> None:
    machine = {
        "cores": 2,
        "processor": "P",
        "window_s": 5.0,
        "crowding": 1.5,
        "startup_s": 6.0,
        "decode_s_per_audio_minute": 0.1,
        "decoded_once_minutes": 60.0,
        "mel_ms_per_window": 4.0,
        "members": [{"name": "a", "ms_per_window": 10.0}, {"name": "b", "ms_per_window": 20.0}],
    }
    workload = Workload(files=100, file_minutes=10.0, limit_minutes=90.0)
    costs = limit_members(machine, {"a": 1, "b": 3}, workload, 2)
    assert costs.ms == pytest.approx({"a": 15.0, "b": 90.0})
    most = int(costs.limit_ms / 15)
    whole = {**machine, "members": [{"name": "a", "ms_per_window": 10.0}] * most}
    one_more = {**whole, "members": [*whole["members"], whole["members"][0]]}  # type: ignore[misc]
    assert predict_minutes(whole, workload, cores=2).fits
    assert not predict_minutes(one_more, workload, cores=2).fits
    with pytest.raises(PromotionError, match="alone take longer"):
        limit_members(machine, {"a": 1, "b": 1}, replace(workload, limit_minutes=1.0), 2)


# ---------------------------------------------------------------- files and the command


def test_an_ensemble_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("members: [a, 'lr:best']\nblend: power:2\nshares: [2, 1.5]\nvariants: [int8]\n")
    spec = load_ensemble(path)
    assert (spec.name, spec.members, spec.shares) == ("mine", ("a", "lr:best"), (2.0, 1.5))
    assert (spec.blend, spec.weights, spec.alias) == ("power:2", "full", "champion")
    assert load_ensemble(_written(path, "members: [a]\nshares: fitted\n")).shares == "fitted"
    for text, told in (
        ("members: []\n", "members"),
        ("members: [a, a]\n", "named twice"),
        ("members: [a]\nblend: median\n", "power:2"),
        ("members: [a]\nblend: power:0\n", "power:2"),
        ("members: [a, b]\nshares: [1]\n", "1 numbers for 2 members"),
        ("members: [a, b]\nshares: [0, 0]\n", "above 0"),
        ("members: [a, b]\nshares: [1, -1]\n", "shares"),
        ("members: [a]\nweigths: full\n", "weights"),
        ("members: [a]\nalias: ../x\n", "alias"),
    ):
        with pytest.raises(SpecError, match=told) as caught:
            load_ensemble(_written(path, text))
        assert "mine.yaml:" in str(caught.value)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def lab_of_runs(tmp_path_factory: pytest.TempPathFactory, trained_lab: Path) -> Lab:
    """A lab with the tiny run and two foreign ones, good and bad, on its folds."""
    root = tmp_path_factory.mktemp("ensemble") / "lab"
    shutil.copytree(trained_lab, root)
    lab = open_lab(root)
    plan = plan_experiment(load_spec(root / "tiny.yaml"), lab)
    rows = plan.rows.table
    rng = np.random.default_rng(1)
    for name, skill in (("good", 0.5), ("bad", 0.0)):
        table = pd.DataFrame({"recording": plan.rows.names, "fold": rows["fold"]})
        for code in plan.data.classes:
            heard = (rows["primary_label"] == code).to_numpy(float)
            table[code] = (0.4 * rng.random(len(table)) + skill * heard).round(4)
        table.to_csv(root / f"{name}.csv", index=False)
        import_foreign(lab, plan, root / f"{name}.csv", name, like=plan.spec_id)
    return lab


def test_the_command_says_what_runs_are_worth_together(lab_of_runs: Lab) -> None:
    text = print_of(lab_of_runs, "ensemble", "good", "bad", "tiny", "--fit", "--greedy")
    for part in (
        "Rank correlation",
        "Ways to blend",
        "Fitted weights",
        "Greedy choice",
        "optimism",
    ):
        assert part in text
    assert "good alone is chosen" in text and "nan" not in text
    last = text.rstrip().split("\n")[-1]
    assert last.startswith("next: birdlab promote ") and len(last.split()) == 4
    words = ("ensemble", "good", "bad", "--blend", "power:3", "--metric", "macro_auc", "--json")
    found = json.loads(print_of(lab_of_runs, *words))
    assert found["blend"] == "power mean of exponent 3" and found["fitted"] is None
    assert found["next"].endswith("--blend power:3")
    assert [row["name"] for row in found["weighed"]] == ["good", "bad"]
    alone = print_of(lab_of_runs, "ensemble", "good")
    assert "good alone scores" in alone and "Ways" not in alone


def test_the_command_reads_a_file_and_refuses_what_makes_no_sense(lab_of_runs: Lab) -> None:
    path = lab_of_runs.root / "mine.yaml"
    path.write_text("members: [good, bad]\nshares: [3, 1]\nblend: rank\nweights: folds\n")
    text = print_of(lab_of_runs, "ensemble", str(path))
    assert "The weights of the file" in text and "given weights" in text
    assert text.rstrip().endswith("--weights folds --blend rank --shares 0.75,0.25")
    for words, told in (
        (("--greedy", "--minutes", "9"), "windows of its competition"),
        (("--greedy", "--budget-ms", "9"), "is not known"),
        (("--greedy", "--budget-ms", "9", "--minutes", "9"), "one limit"),
        (("--metric", "top1"), "--metric"),
        (("--weights", "half"), "--weights"),
        (("--blend", "median"), "median|way to blend"),
    ):
        with pytest.raises(BirdlabError, match=told):
            print_of(lab_of_runs, "ensemble", "good", "bad", *words)
    with pytest.raises(SystemExit):
        print_of(lab_of_runs, "ensemble", "good", "--minutes", "9")

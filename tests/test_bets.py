"""Bets: what may be claimed, when a claim is decided, how sure people should have been."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bet_simulations import PEOPLE, score_person, simulate_lab
from commandline import print_of
from conftest import TINY_SPEC, MakeLab
from scipy import special

from birdlab.cli.reports import sweep_document
from birdlab.errors import LabError, SpecError
from birdlab.lab import Lab
from birdlab.spec.arms import arms_left_out, sweep_arms
from birdlab.spec.bets import BetSpec, build_claim
from birdlab.spec.points import SearchSpace
from birdlab.spec.sweep import Sweep, SweepSpec, load_sweep
from birdlab.study.bet_claims import decide_claim, margin
from birdlab.study.bet_evidence import weigh_claims
from birdlab.study.bet_file import bets_path, load_placed, place_bets
from birdlab.study.bets import EVERYTHING, BetEvidence, PlacedBet, judge_bets, score_bets
from birdlab.study.calibration import calibrate
from birdlab.study.contrasts import build_contrasts
from birdlab.study.lab_bets import judge_sweep, load_bets
from birdlab.study.sweep_records import load_sweep as read_sweep
from birdlab.sweep.driver import run_sweep
from birdlab.tasks import InProcess
from birdlab.tracking.index import load_sweeps
from dashboards.bets import bets_part
from dashboards.source import LabSource
from dashboards.static import html_of

REBASED = """\
base: tiny.yaml
name: s
expect: [{arm: no mask, worse_by: 0, sure: 0.7}]
one_factor:
  train.batch: [2, 4]
  no mask: {augment.spec_mask: off}
  less mixing: {augment.or_mixup.p: 0.1}
  weaker loss: {train.loss: bce}
"""

POINTS: dict[str, dict[str, Any]] = {"base": {}, "a": {"x": 1.0}, "b": {"x": 2.0}, "c": {"x": 3.0}}


def bet(**given: Any) -> BetSpec:
    return BetSpec.model_validate(given)


def scores_of(means: dict[str, float], sd: float = 0.001, n_folds: int = 5) -> pd.DataFrame:
    """Cells of arms about their means, each with noise of its own that sums to 0 over folds."""
    rng = np.random.default_rng(3)
    rows = []
    for arm, mean in means.items():
        noise = rng.standard_normal(n_folds)
        noise = sd * (noise - noise.mean()) / noise.std()
        rows += [(arm, fold, 0, mean + noise[fold]) for fold in range(n_folds)]
    return pd.DataFrame(rows, columns=["arm", "fold", "seed", "score"])


def cells_of(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.pivot(index="arm", columns=["fold", "seed"], values="score")


CLEAR = {"base": 0.70, "a": 0.73, "b": 0.70, "c": 0.66}


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({"arm": "a", "better_by": 0}, "true"),
        ({"arm": "a", "better_by": 0.02}, "true"),
        ({"arm": "a", "better_by": 0.03}, "open"),
        ({"arm": "a", "better_by": 0.04}, "false"),
        ({"arm": "c", "worse_by": 0.03}, "true"),
        ({"arm": "a", "worse_by": 0}, "false"),
        ({"arm": "b", "within": 0.01}, "true"),
        ({"arm": "b", "within": 0.0005}, "open"),
        ({"arm": "c", "within": 0.01}, "false"),
        ({"arm": ["a", "b"], "not_worse_by": 0.01}, "true"),
        ({"arm": ["a", "c"], "not_worse_by": 0.01}, "false"),
        ({"arm": "every other", "not_better_by": 0.05}, "true"),
        ({"arm": "every other", "not_better_by": 0.01}, "false"),
        ({"arm": "c", "against": "b", "worse_by": 0.03}, "true"),
        ({"arm": 3, "worse_by": 0.03}, "true"),
        ({"best": ["a", "b"]}, "true"),
        ({"best": "b"}, "false"),
        ({"worst": "c"}, "true"),
        ({"best": {"x": [0.5, 2.5]}}, "true"),
        ({"worst": {"x": [1, 2]}}, "false"),
        ({"best": {"x": [7, 9]}}, "open"),
    ],
)
def test_claims_are_decided_as_truth_has_it(given: dict[str, Any], outcome: str) -> None:
    claim = build_claim(bet(**given), POINTS, "base")
    assert claim is not None
    cells = cells_of(scores_of(CLEAR))
    assert decide_claim(claim, cells, control="base").outcome == outcome
    if outcome != "open":
        values = {arm: np.array([mean]) for arm, mean in CLEAR.items()}
        true = float(margin(claim, values)[0])
        assert (true > 0) == (outcome == "true")
        ((seen, error),) = weigh_claims([claim], cells, control="base")
        assert seen == pytest.approx(true, abs=3 * error) and 0 < error < 0.002


def test_a_claim_is_open_where_evidence_lacks_and_says_why() -> None:
    claim = build_claim(bet(arm="a", better_by=0), POINTS, "base")
    assert claim is not None
    wide = decide_claim(claim, cells_of(scores_of(CLEAR, sd=0.1)), control="base")
    assert (wide.outcome, wide.why) == ("open", "the intervals leave both open")
    assert wide.low < 0.03 < wide.high and wide.estimate == pytest.approx(0.03)
    few = decide_claim(claim, cells_of(scores_of(CLEAR, n_folds=2)), control="base")
    assert (few.outcome, few.why) == ("open", "2 common folds; 3 are needed")
    gone = decide_claim(claim, cells_of(scores_of({"base": 0.7, "b": 0.7})), control="base")
    assert (gone.outcome, gone.why) == ("open", "without score: a")


def test_the_race_decides_what_the_sign_decides() -> None:
    cells = cells_of(scores_of(CLEAR, sd=0.1))
    for given, outcome in (
        ({"worse_by": 0.01}, "open"),
        ({"better_by": 0}, "false"),
        ({"not_better_by": 0.01}, "true"),
        ({"worse_by": 0}, "true"),
        ({"arm": "base", "against": "c", "better_by": 0}, "true"),
        ({"arm": "base", "against": "c", "not_better_by": 0}, "false"),
    ):
        claim = build_claim(bet(**{"arm": "c"} | given), POINTS, "base")
        assert claim is not None
        said = decide_claim(claim, cells, control="base", stopped=["c"])
        assert said.outcome == outcome
        assert decide_claim(claim, cells, control="base").outcome == "open"


def test_twins_of_the_control_are_decided_exactly() -> None:
    scores = scores_of({"base": 0.7, "c": 0.66}, sd=0.02)
    twin = scores[scores["arm"] == "base"].assign(arm="a")
    cells = cells_of(pd.concat([scores, twin]))
    for given, outcome in (({"within": 1e-6}, "true"), ({"better_by": 0}, "false")):
        claim = build_claim(bet(arm="a", **given), POINTS, "base")
        assert claim is not None
        assert decide_claim(claim, cells, control="base").outcome == outcome


def test_the_margin_of_a_difference_is_the_difference_with_its_error() -> None:
    cells = cells_of(scores_of({"base": 0.7, "a": 0.7045}, sd=0.03, n_folds=200))
    claim = build_claim(bet(arm="a", better_by=0.004), POINTS, "base")
    assert claim is not None
    c = build_contrasts(cells, ["a"], "base")["a"]
    ((seen, error),) = weigh_claims([claim], cells, control="base")
    assert seen == pytest.approx(c.delta - 0.004, abs=0.1 * c.se)
    assert error == pytest.approx(c.se, rel=0.05)


# ---------------------------------------------------------------- calibration


def test_sureness_is_judged_by_how_often_margins_are_above_0() -> None:
    rng = np.random.default_rng(5)

    def told(sure: float, right: float, error: float = 1e-6, n: int = 300) -> Any:
        place = special.ndtri(right)
        margins = 0.01 * (place + rng.standard_normal(n))
        return calibrate(
            np.full(n, sure), margins + error * rng.standard_normal(n), np.full(n, error)
        )

    assert told(0.9, 0.6).verdict == "overconfident"
    assert told(0.55, 0.9).verdict == "underconfident"
    found = told(0.8, 0.8)
    assert found.verdict == "as sure as right" and found.high - found.low < 0.12
    assert told(0.9, 0.6, error=0.01).right == pytest.approx(0.6, abs=0.06)
    assert told(0.9, 0.6, error=1.0, n=30).high > 0.95, "evidence that says nothing"


def test_bets_on_large_and_on_small_differences_count_alike() -> None:
    """Rates of learning move scores by tenths, augmentations by thousandths."""
    few_and_far = calibrate(np.full(40, 0.9), np.r_[[0.003] * 36, [-0.1] * 4], np.full(40, 5e-4))
    assert few_and_far.low > 0.7 and few_and_far.verdict == "as sure as right"
    rng = np.random.default_rng(8)
    said = []
    for _ in range(8):
        sure, scales = rng.uniform(0.5, 0.97, 60), 0.01 * np.exp(1.5 * rng.standard_normal(60))
        margins = scales * (special.ndtri(sure) + rng.standard_normal(60))
        errors = np.full(60, 0.006)
        seen = margins + errors * rng.standard_normal(60)
        said.append(calibrate(sure, seen, errors).verdict)
    assert said.count("as sure as right") >= 7


def test_a_bet_of_less_than_half_is_one_on_the_opposite() -> None:
    rng = np.random.default_rng(6)
    sure, margins = rng.uniform(0.6, 0.9, 40), rng.normal(0.005, 0.01, 40)
    errors = np.full(40, 0.003)
    one = calibrate(sure, margins, errors)
    two = calibrate(np.r_[1 - sure, 0.5], np.r_[-margins, 9.0], np.r_[errors, 1.0])
    assert (one.n, one.right, one.low) == pytest.approx((two.n, two.right, two.low))


def evidence(**given: Any) -> BetEvidence:
    return BetEvidence(scores_of(CLEAR), POINTS, "base", **given)


def test_too_few_decided_bets_give_words_and_no_number() -> None:
    placed = [PlacedBet(bet(arm="a", better_by=0, sure=0.9), "2026-01-01")]
    found = score_bets({"s": placed}, {"s": evidence()})
    assert found.sentences == (
        "1 bet on 1 sweep: 1 came true, 0 did not, 0 open (not enough evidence).",
        "Not enough evidence of how sure to be: 1 bet with `sure` decided, and 10 are needed.",
    )
    assert math.isnan(found.brier) and found.calibration is None and found.reliability.empty
    words = score_bets({"s": [PlacedBet(bet(text="a wins"))]}, {"s": evidence()})
    assert words.sentences == ("Nobody has bet on anything that an outcome decides.",)


def test_scores_of_many_decided_bets() -> None:
    right = PlacedBet(bet(arm="a", better_by=0, sure=0.9), "2026-01-01")
    wrong = PlacedBet(bet(arm="c", better_by=0, sure=0.9), "2026-01-01")
    bets = {f"s{n}": [right, wrong] for n in range(10)}
    told = dict.fromkeys(bets, evidence())
    found = score_bets(bets, told)
    assert found.brier == pytest.approx((0.1**2 + 0.9**2) / 2)
    assert found.brier_base == pytest.approx(0.25)
    assert found.calibration is not None and found.calibration.verdict == "overconfident"
    assert found.reliability["n"].tolist() == [20]


def test_late_and_changed_bets_are_shown_and_not_scored() -> None:
    one = bet(arm="a", better_by=0, sure=0.9)
    placed = [
        PlacedBet(one, "2026", frozenset({"base", "c"})),
        PlacedBet(one, "2026", frozenset({"base", "a"})),
        PlacedBet(one, "2026", frozenset({EVERYTHING})),
        PlacedBet(one, "2026", again=True),
        PlacedBet(one),
        PlacedBet(bet(arm="a", better_by=0), "2026"),
        PlacedBet(bet(arm="zz", better_by=0, sure=0.5), "2026"),
    ]
    table = judge_bets("s", placed, evidence())
    assert table["counts"].tolist() == [
        "yes",
        "placed after the result",
        "placed after the result",
        "changed after the start",
        "not noted before the start",
        "not said how sure",
        "yes",
    ]
    assert table["outcome"].tolist() == ["true"] * 6 + ["open"]
    assert table["why"].iloc[-1] == "a bet names no arm of the sweep: zz"
    assert judge_bets("s", placed[:1], None)["why"].tolist() == ["the sweep has not ended"]


def test_who_is_thrice_as_sure_is_found_out_and_who_is_right_is_not() -> None:
    """A small run of tests/bet_simulations.py, whose table is in docs/bets.md."""
    lab = simulate_lab(np.random.default_rng([7, 2]), 14)
    told = {person: score_person(lab, person) for person in PEOPLE}
    assert told["as right"]["verdict"] == "as sure as right"
    assert told["tripled"]["verdict"] == "overconfident"
    assert float(str(told["tripled"]["wrongly decided"])) < 0.1


# ---------------------------------------------------------------- files


def test_bets_are_settled_by_the_first_start(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    first, surer = bet(arm="a", better_by=0, sure=0.6), bet(arm="a", better_by=0, sure=0.9)
    other = bet(arm="b", within=0.01, sure=0.8)
    assert not place_bets(lab, "s", [], [])
    assert place_bets(lab, "s", [first], ["base"])
    assert not place_bets(lab, "s", [first], ["base", "a"])
    assert place_bets(lab, "s", [surer, other, bet(text="well")], ["base", "a"])
    assert place_bets(lab, "s", [first], ["base", "a"])
    placed = load_placed(lab, "s")
    assert [(one.bet.words, one.again, sorted(one.known)) for one in placed] == [
        ("a beats the control (sure 0.6)", False, ["base"]),
        ("a beats the control (sure 0.9)", True, ["a", "base"]),
        ("b is within 0.01 of the control (sure 0.8)", False, ["a", "base"]),
        ("well", False, ["a", "base"]),
    ]
    bets_path(lab, "s").write_text('{"bets": 3}\n')
    with pytest.raises(LabError, match="cannot be read"):
        load_placed(lab, "s")


BLENDS = """\
base: tiny.yaml
name: s
control: plain
expect:
  - {arm: half, within: 0.5, sure: 0.9}
  - nobody knows
grid:
  blend: {plain: {}, half: {output: {clip: 0.5, time_max: 0.5}}}
"""


def test_a_sweep_notes_its_bets_before_it_runs_and_says_how_they_went(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    path = lab.root / "s.yaml"
    path.write_text(BLENDS)
    noted: list[int] = []
    run_sweep(
        load_sweep(path),
        lab,
        InProcess(),
        planned=lambda _: noted.append(len(load_placed(lab, "s"))),
    )
    assert noted == [2]
    placed = load_placed(lab, "s")
    assert placed[0].known == {"plain"}, "its record was there before"
    sweep = read_sweep(lab, "s")
    assert (
        judge_sweep(sweep)
        .sentences[0]
        .startswith(
            "open: half is within 0.5 of the control (sure 0.9) (2 common folds; 3 are needed"
        )
    )
    path.write_text(path.read_text().replace("sure: 0.9", "sure: 0.99"))
    run_sweep(load_sweep(path), lab, InProcess())
    table = load_bets(lab).table
    assert table["counts"].tolist() == ["yes", "words alone", "changed after the start"]
    said = print_of(lab, "bets")
    assert "changed after the start" in said and "in words: nobody knows" in said
    assert "0 bets with `sure` decided, and 10 are needed" in said
    rows = json.loads(print_of(lab, "bets", "--json"))["bets"]
    assert [row["sure"] for row in rows] == [0.9, None, 0.99]
    assert print_of(lab, "bets", "--csv").startswith("sweep,bet,sure,outcome")
    page = html_of(bets_part(LabSource(lab)))
    assert "half is within 0.5 of the control (sure 0.9)" in page
    assert "changed after the start" in page and "10 are needed" in page
    document = sweep_document(read_sweep(lab, "s"))
    (told,) = (section for section in document.sections if section.title == "The bet")
    assert any(
        "2 common folds" in said for part in told.parts for said in getattr(part, "sentences", ())
    )


# ---------------------------------------------------------------- spec


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ("[{arm: small, worse_by: 0.1, sure: 2}]", "less than 1"),
        ("[{arm: small}]", "a bet claims one of better_by"),
        ("[{arm: small, better_by: 0, worse_by: 0}]", "better_by and worse_by"),
        ("[{better_by: 0}]", "needs an `arm`"),
        ("[{best: small, arm: base}]", "no `arm`"),
        ("[{best: small, against: base}]", "no `against`"),
        ("[{best: {train.lr: [0, 1]}}]", "which the sweep does not search"),
        ("[{arm: smal, better_by: 0}]", "a bet names no arm"),
        ("[{arm: base, better_by: 0}]", "with itself"),
        ("[{arm: small, beter_by: 0}]", "unknown field 'beter_by'"),
    ],
)
def test_what_is_no_bet_is_refused_before_anything_runs(
    tmp_path: Path, expect: str, said: str
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY_SPEC)
    text = f"base: tiny.yaml\nexpect: {expect}\none_factor: {{small: {{train.batch: 2}}}}\n"
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SpecError, match=re.escape(said)):
        sweep_arms(load_sweep(tmp_path / "s.yaml"))


def test_a_search_bets_on_ranges_and_a_grid_needs_a_control() -> None:
    space = {"train.optimizer.lr": {"kind": "log_uniform", "low": 1e-4, "high": 1e-1}}
    raw: dict[str, Any] = {"name": "s", "optuna": {"space": space}}
    with pytest.raises(ValueError, match="nobody knows the arms"):
        SweepSpec.model_validate({**raw, "expect": [{"arm": "x", "better_by": 0}]})
    spec = SweepSpec.model_validate(
        {**raw, "expect": [{"best": {"train.optimizer.lr": [1e-3, 1e-2]}, "sure": 0.7}]}
    )
    assert spec.expected == "the best arm has lr 0.001 to 0.01 (sure 0.7)"
    assert SweepSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(SpecError, match="the sweep has no control"):
        build_claim(bet(arm="a", better_by=0), POINTS, None)
    old = SweepSpec.model_validate_json('{"name": "s", "grid": {"x": [1, 2]}, "expect": "a wins"}')
    assert old.expected == "a wins"


# ---------------------------------------------------------------- another base


def rebase(folder: Path, other: str, **given: Any) -> Sweep:
    (folder / "tiny.yaml").write_text(TINY_SPEC)
    (folder / "other.yaml").write_text("base: tiny.yaml\n" + other)
    (folder / "s.yaml").write_text(given.pop("text", REBASED))
    return load_sweep(folder / "s.yaml", base=folder / given.pop("base", "other.yaml"), **given)


def test_the_same_changes_over_another_base(tmp_path: Path) -> None:
    sweep = rebase(tmp_path, "train: {batch: 2, optimizer: {lr: 1e-2}}\naugment: [or_mixup]\n")
    arms = {arm.title: arm for arm in sweep_arms(sweep)}
    assert list(arms) == ["base", "batch=4", "less mixing", "weaker loss"]
    assert {arm.spec.train.optimizer.lr for arm in arms.values()} == {1e-2}  # type: ignore[attr-defined]
    assert arms_left_out(sweep) == {
        "batch=2": "changes nothing over this base: the same experiment as 'base'",
        "no mask": "does not hold over this base: augment.spec_mask is off already",
    }
    assert (sweep.spec.name, sweep.spec.base) == ("s-on-other", "other.yaml")
    assert sweep.spec.expected == "on tiny.yaml: no mask loses to the control (sure 0.7)"
    assert not any(bet.kind for bet in sweep.spec.expect), "its bets were made on its own base"
    assert rebase(tmp_path, "", name="mine").spec.name == "mine"


def test_its_own_base_is_no_other_one(tmp_path: Path) -> None:
    sweep = rebase(tmp_path, "", base="tiny.yaml")
    assert (sweep.spec.name, sweep.rebased, arms_left_out(sweep)) == ("s", False, {})
    with pytest.raises(SpecError, match="is the base: its changes change nothing"):
        sweep_arms(sweep)


def test_the_control_stays_of_two_that_are_one_over_another_base(tmp_path: Path) -> None:
    grid = "grid: {what: {plain: {}, small: {train.batch: 2}, big: {train.batch: 16}}}\n"
    text = f"base: tiny.yaml\nname: s\ncontrol: small\n{grid}"
    sweep = rebase(tmp_path, "train: {batch: 2}\n", text=text)
    assert [arm.title for arm in sweep_arms(sweep)] == ["small", "big"]
    assert list(arms_left_out(sweep)) == ["plain"]


def test_a_sweep_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    text = "base: tiny.yaml\none_factor: {no mask: {augment.spec_mask: off}}\n"
    with pytest.raises(SpecError, match="too little of the sweep is left"):
        sweep_arms(rebase(tmp_path, "augment: [or_mixup]\n", text=text))
    text = "base: tiny.yaml\ncontrol: gone\ngrid: {a: {x: {}, y: {train.batch: 2}, gone: "
    text += "{augment.spec_mask.p: 1}}}\n"
    with pytest.raises(SpecError, match="'gone' among them"):
        sweep_arms(rebase(tmp_path, "augment: [or_mixup]\n", text=text))


def test_a_search_runs_over_another_base(tmp_path: Path) -> None:
    text = (
        "base: tiny.yaml\noptuna:\n  trials: 2\n  space:\n"
        "    train.batch: {kind: int, low: 2, high: 8}\n"
    )
    sweep = rebase(tmp_path, "train: {optimizer: {lr: 1e-2}}\n", text=text)
    arm = SearchSpace(sweep).arm({"train.batch": 4})
    assert arm.spec.train.optimizer.lr == 1e-2 and arms_left_out(sweep) == {}  # type: ignore[attr-defined]


def test_the_command_lays_a_sweep_over_another_base(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(trained=True)
    text = "base: tiny.yaml\none_factor:\n  half: {output: {clip: 0.5, time_max: 0.5}}\n"
    text += "  fifth: {output: {clip: 0.2, time_max: 0.8}}\n"
    rebase(lab.root, "output: {clip: 0.2, time_max: 0.8}\n", text=text)
    monkeypatch.chdir(lab.root)
    said = print_of(lab, "sweep", "s.yaml", "--base", "other.yaml", "--dry-run")
    assert "left out fifth: changes nothing over this base: the same experiment as 'base'" in said
    assert "sweep s-on-other: 2 arms" in said
    assert not load_sweeps(lab)
    run_sweep(load_sweep(lab.root / "s.yaml", base=lab.root / "other.yaml"), lab, InProcess())
    assert list(load_sweeps(lab)["s-on-other"]["left_out"]) == ["fifth"]
    assert read_sweep(lab, "s-on-other").left_out[0].startswith("fifth: changes nothing")
    folder = lab.root / "more"
    folder.mkdir()
    (folder / "other.yaml").write_text("base: ../other.yaml\n")
    again = ("sweep", "s.yaml", "--base", "more/other.yaml", "--dry-run")
    with pytest.raises(SpecError, match="a sweep of this name over another base"):
        print_of(lab, *again)
    assert "sweep third: 2 arms" in print_of(lab, *again, "--name", "third")

"""Rounds of pseudo-labels: what is run after which round, when they end, what is taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeLab
from hypothesis import given
from hypothesis import strategies as st

from birdlab.cellfiles import WEIGHTS, is_finished
from birdlab.cli.plans import describe_plan
from birdlab.cli.summaries import summarise_run, summarise_sweep
from birdlab.errors import SpecError
from birdlab.lab import Lab, open_lab
from birdlab.plan import plan_experiment
from birdlab.rounds import choose_round, cut_rounds
from birdlab.run import run_experiment
from birdlab.runresult import RunResult
from birdlab.spec import ExperimentSpec, load_spec
from birdlab.spec.identity import canonical_json
from birdlab.spec.sweep import load_sweep
from birdlab.spec.teaching import RoundsSpec
from birdlab.study.pseudo_rounds import compare_rounds
from birdlab.sweep.driver import run_sweep
from birdlab.tasks import Event, InProcess
from birdlab.tracking.index import load_record, load_records
from birdlab.tracking.resolve import resolve_run

PSEUDO = {"soundscapes": ["hours"], "threshold": 0.0}
STAGES: list[Any] = [
    {"train": {}},
    {"round1": {"pseudo": {**PSEUDO, "teacher": "train"}, "train": {"optimizer": {"lr": 2e-3}}}},
    {"round2": {"pseudo": {**PSEUDO, "teacher": "round1"}, "train": {"optimizer": {"lr": 1e-3}}}},
]
TINY = {"train.length.steps": 2, "stages": STAGES, "augment": []}
NEVER = {"by": "padded_cmap", "min_gain": 0.9}
ALWAYS = {"by": "padded_cmap", "patience": 9}


def with_hours(lab: Lab, hours: Path) -> Lab:
    (lab.root / "birdlab.local.toml").write_text(f'[data]\nhours = "{hours}"\n')
    return open_lab(lab.root)


def spec_of(lab: Lab, **changes: Any) -> ExperimentSpec:
    return load_spec(lab.root / "tiny.yaml", {"name": "tiny", **TINY, **changes})


# ---------------------------------------------------------------- which round is taken


@pytest.mark.parametrize(
    ("scores", "rule", "taken", "is_over"),
    [
        ([0.5], {}, 0, False),
        ([0.5, 0.6], {}, 1, False),
        ([0.5, 0.5], {}, 0, True),
        ([0.5, 0.6, 0.55], {}, 1, True),
        ([0.5, 0.6, 0.55], {"patience": 2}, 1, False),
        ([0.5, 0.6, 0.55, 0.7], {"patience": 2}, 3, False),
        ([0.5, 0.6, 0.55, 0.6], {"patience": 2}, 1, True),
        ([0.5, 0.52], {"min_gain": 0.05}, 0, True),
        ([0.5, 0.54, 0.58], {"min_gain": 0.05, "patience": 2}, 2, False),
    ],
)
def test_a_round_that_does_not_gain_ends_them(
    scores: list[float], rule: dict[str, Any], taken: int, is_over: bool
) -> None:
    choice = choose_round(scores, RoundsSpec(by="padded_cmap", **rule))
    assert (choice.taken, choice.is_over) == (taken, is_over)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8))
def test_without_a_least_gain_the_first_of_the_highest_is_taken(scores: list[int]) -> None:
    choice = choose_round(scores, RoundsSpec(by="padded_cmap", patience=99))
    assert choice.taken == scores.index(max(scores)) and not choice.is_over


# ---------------------------------------------------------------- the experiment after each round


def test_each_cut_is_the_plain_experiment_that_ends_there(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    spec = spec_of(lab, rounds="padded_cmap")
    assert spec.rounds == RoundsSpec(by="padded_cmap")
    cuts = cut_rounds(spec)
    assert [(cut.number, cut.stage) for cut in cuts] == [(0, "train"), (1, "round1"), (2, "round2")]
    assert [cut.spec.name for cut in cuts] == [f"tiny, round {n}" for n in range(3)]
    for cut in cuts:
        plain = spec_of(lab, stages=STAGES[: cut.number + 1])
        assert cut.spec.rounds is None
        assert canonical_json(cut.spec) == canonical_json(plain)
        assert load_spec(lab.root / "tiny.yaml", cut.spec.model_dump(mode="json")) == cut.spec
    assert canonical_json(spec) == canonical_json(spec_of(lab)), "rounds is in no identity"


def test_stages_between_rounds_belong_to_the_round_before(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    more = [
        {"far": {"data": "abroad"}},
        {"near": {"start": "far", "transfer": "backbone"}},
        {"round1": {"pseudo": {**PSEUDO, "teacher": "near"}}},
        {"tuned": {"start": "round1"}},
        {"again": {"data": "abroad"}},
        {"round2": {"pseudo": {**PSEUDO, "teacher": "tuned"}}},
    ]
    cuts = cut_rounds(spec_of(lab, rounds="padded_cmap", stages=more))
    assert [[stage.name for stage in cut.spec.stages][-1] for cut in cuts] == [
        "near", "tuned", "round2",
    ]  # fmt: skip
    at_once = [{"round1": {"pseudo": {**PSEUDO, "teacher": {"run": "other"}}}}, STAGES[2]]
    cuts = cut_rounds(spec_of(lab, rounds="padded_cmap", stages=at_once))
    assert [(cut.number, cut.stage) for cut in cuts] == [(1, "round1"), (2, "round2")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rounds": "padded_cmap", "stages": [{"train": {}}]}, "no stage has `pseudo`"),
        ({"rounds": "padded_cmap", "cells.folds": "none"}, "promote the run that is taken"),
        ({"rounds": "macro_acu"}, "did you mean 'macro_auc'"),
        ({"rounds": "soundscapes_macro_auc"}, "needs evaluate.soundscapes"),
        ({"rounds": {"by": "macro_auc", "patience": 0}}, "greater than or equal to 1"),
        ({"rounds": {"by": "macro_auc", "min_gain": -0.1}}, "greater than or equal to 0"),
    ],
)
def test_rounds_that_cannot_be_judged_are_refused(
    make_lab: MakeLab, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        spec_of(make_lab(decoded=False), **changes)


def test_arms_with_rounds_do_not_race(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    (lab.root / "rounds.yaml").write_text(json.dumps({"base": "tiny.yaml", **nested(TINY)}))
    path = lab.root / "s.yaml"
    path.write_text(
        "base: rounds.yaml\nname: s\nrace: true\ncells: {folds: all, seeds: [0, 1]}\n"
        "set: {data.folds.n: 3, rounds: padded_cmap}\none_factor: {train.optimizer.lr: [1e-2]}\n"
    )
    with pytest.raises(SpecError, match="cannot race: both decide") as caught:
        run_sweep(load_sweep(path), lab, InProcess())
    assert "s.yaml:3" in str(caught.value)


def nested(changes: dict[str, Any]) -> dict[str, Any]:
    """Dotted names as the mappings of a file."""
    out: dict[str, Any] = {}
    for dotted, value in changes.items():
        *path, last = dotted.split(".")
        node = out
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return out


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def rounds_lab(
    tmp_path_factory: pytest.TempPathFactory, trained_lab: Path, hours: Path
) -> tuple[Path, RunResult]:
    """A lab in which all three rounds were run. Copy it, never run in it."""
    root = tmp_path_factory.mktemp("rounds") / "lab"
    shutil.copytree(trained_lab, root)
    lab = with_hours(open_lab(root), hours)
    for folder in (lab.cells, lab.runs):
        shutil.rmtree(folder)
    return root, run_experiment(spec_of(lab, rounds=ALWAYS), lab=lab)


def copied(rounds_lab: tuple[Path, RunResult], to: Path) -> Lab:
    shutil.copytree(rounds_lab[0], to)
    return open_lab(to)


def names_of(lab: Lab) -> dict[str, str]:
    return {str(record["spec_id"]): str(record["name"]) for record in load_records(lab)}


def test_every_round_is_a_run_and_the_best_is_what_comes_back(
    rounds_lab: tuple[Path, RunResult],
) -> None:
    root, result = rounds_lab
    lab, found = open_lab(root), result.rounds
    assert found is not None and found.left == ()
    assert result.trained == 6 and result.cached == 0, "each stage once per fold"
    scores = [load_record(lab, r.spec_id)["scores"]["cv/padded_cmap"] for r in found.results]
    assert list(found.scores) == scores and len(scores) == 3
    assert found.taken == scores.index(max(scores))
    taken = found.results[found.taken]
    assert result.spec_id == taken.spec_id and result.cv == max(scores)
    assert result.spec.rounds is None and result.spec.stages == taken.spec.stages
    names = names_of(lab)
    assert names[taken.spec_id] == "tiny", "the run that is taken has the experiment's name"
    others = {names[r.spec_id] for r in found.results if r is not taken}
    assert others == {f"tiny, round {n}" for n in range(3) if n != found.taken}
    assert resolve_run(lab, "tiny")["spec_id"] == result.spec_id
    assert resolve_run(lab, "tiny")["rounds"] == found.sentence
    whole = plan_experiment(spec_of(lab), lab)
    assert all(is_finished(lab, cell) for cell in whole.cells)
    assert found.results[2].spec_id == whole.spec_id, "all rounds are the experiment without"


def test_the_table_of_rounds_compares_each_with_the_one_before(
    rounds_lab: tuple[Path, RunResult],
) -> None:
    found = rounds_lab[1].rounds
    assert found is not None
    table = compare_rounds(found)
    assert table["stage"].tolist() == ["train", "round1", "round2"]
    assert table["delta"].isna().tolist() == [True, False, False]
    assert table["delta"].tolist()[1:] == pytest.approx(
        [b - a for a, b in zip(found.scores, found.scores[1:])]  # noqa: B905
    )
    assert table["verdict"].tolist() == ["", "no verdict", "no verdict"], "two folds give none"
    said = summarise_run(rounds_lab[1])
    assert "rounds by padded_cmap; delta and interval to the round before" in said
    assert found.sentence in said and "no verdict" in said and "flatters a little" in said


def test_a_second_run_trains_nothing_and_a_first_turn_leaves_later_rounds_out(
    rounds_lab: tuple[Path, RunResult], tmp_path: Path
) -> None:
    lab = copied(rounds_lab, tmp_path / "lab")
    again = run_experiment(spec_of(lab, rounds=ALWAYS), lab=lab)
    assert again.trained == 0 and again.spec_id == rounds_lab[1].spec_id
    early = run_experiment(spec_of(lab, rounds=NEVER), lab=lab)
    assert early.rounds is not None
    assert (early.rounds.taken, early.rounds.left) == (0, (2,))
    assert [stage.name for stage in early.spec.stages] == ["train"]
    assert early.rounds.sentence == (
        "round 0 is taken, without pseudo-labels: round 1 turned over: padded_cmap "
        f"{early.rounds.scores[1]:.4f}, not more than 0.9 above {early.rounds.scores[0]:.4f}; "
        "not run: round 2."
    )


def test_killed_in_the_second_round_the_same_command_goes_on(
    rounds_lab: tuple[Path, RunResult], tmp_path: Path
) -> None:
    lab, whole = copied(rounds_lab, tmp_path / "lab"), rounds_lab[1].rounds
    assert whole is not None
    last = [c for c in plan_experiment(spec_of(lab), lab).cells if c.stage.name == "round2"]
    for cell in last:
        shutil.rmtree(lab.cells / cell.cell_id)
    done: list[str] = []

    def stop(event: Event) -> None:
        if event.kind == "done":
            done.append(event.cell_id)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(spec_of(lab, rounds=ALWAYS), lab=lab, emit=stop)
    assert len(done) == 1
    result = run_experiment(spec_of(lab, rounds=ALWAYS), lab=lab)
    assert result.trained == 1 and result.rounds is not None
    assert result.rounds.scores == whole.scores, "the same bits"


def test_weights_wait_for_the_last_round_before_they_are_dropped(
    rounds_lab: tuple[Path, RunResult], tmp_path: Path
) -> None:
    lab = copied(rounds_lab, tmp_path / "lab")
    for folder in (lab.cells, lab.runs):
        shutil.rmtree(folder)
    from_first = [*STAGES[:1], *({**s, n: {**b, "start": "train"}} for s in STAGES[1:]
                                 for n, b in s.items())]  # fmt: skip
    spec = spec_of(lab, rounds=ALWAYS, stages=from_first, keep="outputs", **{"cells.folds": [0]})
    result = run_experiment(spec, lab=lab)
    assert result.trained == 3, "the first stage is not trained again for the second round"
    assert result.rounds is not None and len(result.rounds.results) == 3
    assert not list(lab.cells.glob(f"*/{WEIGHTS}"))


def test_an_arm_with_rounds_is_the_run_taken_and_shares_cells(
    rounds_lab: tuple[Path, RunResult], tmp_path: Path
) -> None:
    lab = copied(rounds_lab, tmp_path / "lab")
    (lab.root / "rounds.yaml").write_text(json.dumps({"base": "tiny.yaml", **nested(TINY)}))
    path = lab.root / "s.yaml"
    bundles = {
        "plain": {"stages.round1": "off", "stages.round2": "off"},
        "never": {"rounds": NEVER},
        "fewer": {"rounds": ALWAYS, "stages.round2.train.optimizer.lr": 5e-4},
    }
    path.write_text(json.dumps({"base": "rounds.yaml", "name": "s", "grid": {"w": bundles}}))
    result = run_sweep(load_sweep(path), lab, InProcess())
    assert result.failed == []
    by_arm = {arm.title: run for arm, run in result.scored}
    assert by_arm["never"].spec_id == by_arm["plain"].spec_id, "it ends where the plain one does"
    assert by_arm["plain"].rounds is None
    assert {t: r.trained for t, r in by_arm.items()} == {"plain": 0, "never": 0, "fewer": 2}
    assert set(result.scores["arm"]) == {"plain", "never", "fewer"}
    found = by_arm["fewer"].rounds
    assert found is not None and len(found.results) == 3
    title = "fewer" if found.taken else "plain"  # one run has one title in a sweep
    assert resolve_run(lab, f"s:{title}")["spec_id"] == by_arm["fewer"].spec_id
    assert f"never: {by_arm['never'].rounds.sentence}" in summarise_sweep(result)  # type: ignore[union-attr]


def test_a_dry_run_says_what_the_rounds_are(
    rounds_lab: tuple[Path, RunResult],
) -> None:
    lab = open_lab(rounds_lab[0])
    plan = plan_experiment(spec_of(lab, rounds=NEVER), lab, strict=False)
    said: Sequence[str] = describe_plan(plan, lab).splitlines()
    line = next(line for line in said if line.startswith("rounds"))
    assert "0 (train), 1 (round1), 2 (round2)" in line
    assert "1 round without a gain of more than 0.9 in padded_cmap" in line

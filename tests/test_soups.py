"""Soups: which may be, what their weights are, that they are cached, come back, are promoted."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import MakeLab
from safetensors.torch import load_file, save_model

from birdlab.cell import finish_cell
from birdlab.cellfiles import WEIGHTS, is_finished, outputs_folder, soundscapes_folder
from birdlab.cli.plans import describe_plan
from birdlab.errors import CellError, PromotionError, SpecError
from birdlab.evaluate.outputs import load_outputs
from birdlab.jobwriter import job_folder, save_job
from birdlab.lab import Lab, open_lab
from birdlab.more import add_stage
from birdlab.network import load_model
from birdlab.plan import plan_experiment
from birdlab.promote import machines
from birdlab.promote.case import Case, open_case
from birdlab.promote.fullweights import plan_full
from birdlab.promote.gates import PARITY, REPRODUCED
from birdlab.promote.graphs import averaged_members
from birdlab.promote.promote import promote_runs
from birdlab.promote.request import PromotionRequest, Soup, promote_command
from birdlab.promote.soups import (
    SOUPED,
    SoupScore,
    count_deployed,
    group_models,
    line_gate,
    score_soups,
    soup_gate,
)
from birdlab.recorded import load_card
from birdlab.run import run_experiment
from birdlab.sed.averaging import mean_of
from birdlab.spec import ExperimentSpec, load_spec
from birdlab.spec.arms import sweep_arms
from birdlab.spec.sweep import load_sweep

FIRST = {"first": {"data": "abroad", "seeds": "shared", "augment": []}}
TUNE = {"tune": {"start": "first", "transfer": "backbone"}}
SOUP = {"soup": {"soup": {"of": "tune", "n": 2}}}
LONG: dict[str, Any] = {"train.window_s": 5, "cells.folds": "all"}
"""Norms made from clips as long as the windows that are scored: see docs/soups.md."""
SMALL: dict[str, Any] = {"train.length.steps": 2, "cells.folds": [0], "name": "soups"}


@dataclass(frozen=True)
class Placed:
    """A model of a fold and a seed."""

    fold: int | None
    seed: int | None


def spec_of(lab: Lab, *stages: Any, **changes: Any) -> ExperimentSpec:
    given = {"stages": list(stages)} if stages else {}
    return load_spec(lab.root / "tiny.yaml", {**SMALL, **given, **changes})


@pytest.fixture(scope="module")
def cooked(tmp_path_factory: pytest.TempPathFactory, empty_lab: Path) -> Path:
    """A lab in which a soup of two seeds was run. Copy it, never run in it."""
    root = tmp_path_factory.mktemp("soups") / "lab"
    shutil.copytree(empty_lab, root)
    lab = open_lab(root)
    result = run_experiment(spec_of(lab, FIRST, TUNE, SOUP), lab=lab)
    assert (result.trained, result.cached) == (4, 0)
    return root


@pytest.fixture
def lab(tmp_path: Path, cooked: Path) -> Lab:
    shutil.copytree(cooked, tmp_path / "lab")
    return open_lab(tmp_path / "lab")


def weights_of(lab: Lab, cell_id: str) -> dict[str, torch.Tensor]:
    return load_file(lab.cells / cell_id / WEIGHTS)


def is_norm(name: str) -> bool:
    return "running_" in name or "num_batches" in name


# ---------------------------------------------------------------- what may be averaged


def test_seeds_need_a_common_start(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    apart = [{"first": {**FIRST["first"], "seeds": "per_seed"}}, TUNE, SOUP]
    with pytest.raises(SpecError, match="different random weights"):
        spec_of(lab, *apart)
    with pytest.raises(SpecError, match="different random weights"):
        spec_of(lab, FIRST, {"tune": {"start": "none"}}, SOUP)
    for more in ({"model.pretrained": True}, {"model.weights": "mine"}):
        assert spec_of(lab, *apart, **more).stages[-1].soup is not None
    imagenet = {"tune": {"start": "imagenet"}}
    assert spec_of(lab, imagenet, SOUP).stages[-1].soup is not None
    warm = [{"first": {"start": "none", "seeds": "shared"}}, {"tune": {"start": "first"}}, SOUP]
    assert spec_of(lab, *warm).stages[-1].soup is not None


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"soup": {"of": "nix"}}, "not an earlier stage that is trained.*first, tune"),
        ({"soup": {"of": "first"}}, "trained once for all seeds"),
        ({"soup": {"of": "tune"}, "start": "tune"}, "leave out its start"),
        ({"soup": {"of": "tune"}, "train": {"batch": 3}}, "leave out its train"),
        ({"soup": {"of": "tune"}, "augment": []}, "leave out its augment"),
        ({"soup": {"of": "tune"}, "data": "abroad"}, "leave out its data"),
        ({"soup": {"of": "tune"}, "seeds": "shared"}, "leave out its seeds"),
        (
            {"soup": {"of": "tune"}, "pseudo": {"soundscapes": ["x"], "teacher": "tune"}},
            "leave out its pseudo",
        ),
    ],
)
def test_a_soup_has_no_recipe_of_its_own(
    make_lab: MakeLab, stage: dict[str, Any], said: str
) -> None:
    lab = make_lab(decoded=False)
    with pytest.raises(SpecError, match=said):
        spec_of(lab, FIRST, TUNE, {"soup": stage})


def test_the_recipe_is_that_of_the_stage_it_averages(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    tune = {"tune": {**TUNE["tune"], "train": {"batch": 3}, "augment": ["gain"]}}
    spec = spec_of(lab, FIRST, tune, SOUP)
    soup = spec.stages[-1]
    assert soup.train == spec.stages[1].train and soup.train.batch == 3
    assert [a.name for a in soup.augment] == ["gain"]
    again = ExperimentSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    on_abroad = spec_of(
        lab,
        {"warm": {"data": "abroad", "start": "none", "seeds": "shared"}},
        {"first": {"data": "abroad", "start": "warm"}},
        {"mean": {"soup": {"of": "first"}}},
        {"tune": {"start": "mean", "transfer": "backbone"}},
    )
    assert on_abroad.stages[2].data == "abroad"
    plan = plan_experiment(on_abroad, lab)
    (mean,) = [c for c in plan.cells if c.stage.name == "mean"]
    assert mean.fold is None and [c.seed for c in mean.sources] == [0, 1, 2]
    assert set(mean.classes) == set(mean.sources[0].classes)


# ---------------------------------------------------------------- what comes of it


def test_its_weights_are_the_mean_and_its_norms_are_made_anew(lab: Lab) -> None:
    plan = plan_experiment(spec_of(lab, FIRST, TUNE, SOUP), lab)
    (cell,) = plan.final_cells
    assert [c.title for c in cell.sources] == ["tune, fold 0, seed 0", "tune, fold 0, seed 1"]
    assert cell.document["soup"] == [c.cell_id for c in cell.sources]
    own = weights_of(lab, cell.cell_id)
    sources = [weights_of(lab, c.cell_id) for c in cell.sources]
    mean = mean_of(sources)
    for name, tensor in own.items():
        if not is_norm(name):
            assert torch.equal(tensor, mean[name]), name
    norms = [n for n in own if n.endswith("running_mean") and n.startswith("backbone")]
    assert norms and not any(torch.equal(own[n], mean[n]) for n in norms)
    heads = [n for n in own if n.startswith("head.") and n.endswith("weight")]
    assert heads and not any(torch.equal(sources[0][n], sources[1][n]) for n in heads)
    card = load_card(lab, cell.cell_id)
    assert card["chosen"] == "mean of 2 seeds" and card["sources"] == cell.document["soup"]
    one = load_outputs(outputs_folder(lab, cell)).windows.clip_probs
    assert np.isfinite(one).all() and len(one)


def test_it_is_cached_and_a_seed_more_takes_the_next_sources(lab: Lab) -> None:
    again = run_experiment(spec_of(lab, FIRST, TUNE, SOUP), lab=lab)
    assert (again.trained, again.cached) == (0, 4)
    plan = plan_experiment(spec_of(lab, FIRST, TUNE, SOUP, **{"cells.seeds": [1]}), lab)
    (cell,) = plan.final_cells
    assert [c.seed for c in cell.sources] == [2, 3]
    assert not any(is_finished(lab, c) for c in cell.sources)


def test_the_same_bits_come_back(lab: Lab) -> None:
    plan = plan_experiment(spec_of(lab, FIRST, TUNE, SOUP), lab)
    (cell,) = plan.final_cells
    before = weights_of(lab, cell.cell_id)
    shutil.rmtree(lab.cells / cell.cell_id)
    for source in cell.sources:
        (lab.cells / source.cell_id / WEIGHTS).unlink()  # as `keep:` does: they are made again
    result = run_experiment(spec_of(lab, FIRST, TUNE, SOUP), lab=lab)
    assert result.trained == 3
    after = weights_of(lab, cell.cell_id)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_weights_that_are_gone_are_an_error_not_a_smaller_soup(lab: Lab) -> None:
    plan = plan_experiment(spec_of(lab, FIRST, TUNE, SOUP), lab)
    (cell,) = plan.final_cells
    shutil.rmtree(lab.cells / cell.cell_id)
    (lab.cells / cell.sources[1].cell_id / WEIGHTS).unlink()
    with job_folder(lab) as folder, pytest.raises(CellError, match="are not in the lab"):
        finish_cell(save_job(plan, cell, folder), lab, lambda *_: None)
    assert not (lab.cells / cell.cell_id).exists()


def test_an_arm_of_a_sweep_appends_it(lab: Lab, tmp_path: Path) -> None:
    (lab.root / "two.yaml").write_text(
        "base: tiny.yaml\ntrain: {length: {steps: 2}}\nstages:\n"
        "  - first: {data: abroad, seeds: shared, augment: []}\n"
        "  - tune: {start: first, transfer: backbone}\n"
        "cells: {folds: [0]}\n"
    )
    (lab.root / "s.yaml").write_text(
        "base: two.yaml\none_factor:\n  soup: {stages.soup: {soup: {of: tune, n: 2}}}\n"
    )
    base, soup = (arm.spec for arm in sweep_arms(load_sweep(lab.root / "s.yaml")))
    assert [s.name for s in soup.stages] == ["first", "tune", "soup"]
    result = run_experiment(soup, lab=lab)
    alone = run_experiment(base, lab=lab)
    assert (result.trained, alone.trained) == (0, 0), "the cells are those of the experiment"
    scores = [r.scores["cv/padded_cmap"] for r in (alone, result)]
    assert scores[0] != scores[1]
    assert set(result.read["curves"]()["stage"]) == {"first", "tune"}


def test_a_dry_run_says_what_a_soup_is(lab: Lab) -> None:
    plan = plan_experiment(spec_of(lab, FIRST, TUNE, SOUP), lab)
    text = describe_plan(plan, lab)
    assert "soup: mean of the weights of 2 seeds of tune, trains nothing" in text


def test_more_epochs_start_from_the_mean(lab: Lab) -> None:
    spec = add_stage(spec_of(lab, FIRST, TUNE, SOUP), 1)
    assert spec.stages[-1].soup is None and spec.stages[-1].start == "soup"
    plan = plan_experiment(spec, lab)
    assert plan.final_cells[0].start is not None
    assert plan.final_cells[0].start.stage.soup is not None


# ---------------------------------------------------------------- promotion


def case_of(lab: Lab, spec: ExperimentSpec, soup: Soup) -> Case:
    record = json.loads(run_experiment(spec, lab=lab).record.read_text())
    return open_case(lab, [record], PromotionRequest(weights="averaged", soup=soup))


def test_models_are_grouped_by_what_they_share() -> None:
    models = [Placed(fold, seed) for seed in (0, 1) for fold in (0, 1, 2)]
    assert group_models(models, "all") == [models]
    assert group_models(models, "folds") == [models[:3], models[3:]]
    assert group_models(models, "seeds") == [[models[i], models[i + 3]] for i in range(3)]


def test_the_mean_over_seeds_is_scored_on_soundscapes(
    lab: Lab, sites: Path, tmp_path: Path
) -> None:
    (lab.root / "birdlab.local.toml").write_text(f'[data]\nsites = "{sites}"\n')
    lab = open_lab(lab.root)
    heard = {"evaluate.soundscapes": ["sites"], "cells.seeds": [0, 1]}
    case = case_of(lab, spec_of(lab, FIRST, TUNE, **heard), "seeds")
    (plan,) = case.plans.values()
    assert count_deployed(plan, case.request) == 1
    (members,) = averaged_members(case, tmp_path / "means").values()
    (member,) = members
    assert (member.fold, member.seed, member.learned) == (0, None, "averaged")
    (score,) = score_soups(case, members, {next(iter(case.plans)): [0]})
    stored = load_outputs(soundscapes_folder(lab, plan.final_cells[0])).windows
    assert score.n_windows == len(stored.end_s) > 0
    cells = pd.DataFrame(next(iter(case.records.values()))["cells"])
    assert sorted(score.alone[0]) == pytest.approx(sorted(cells["soundscapes_padded_cmap"]))
    assert np.isfinite([*score.averaged, score.outputs]).all() and len(score.averaged) == 1
    model = load_model(plan.spec.model, len(member.classes), member.weights)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    save_model(model, str(member.weights))
    (flat,) = score_soups(case, members, {next(iter(case.plans)): [0]})
    assert flat.averaged != score.averaged and flat.alone == score.alone


def test_the_gates_of_a_mean(lab: Lab) -> None:
    together = plan_experiment(spec_of(lab, FIRST, TUNE, **{"cells.folds": "all"}), lab)
    apart = plan_experiment(spec_of(lab, **{"cells.folds": "all"}), lab)
    assert line_gate({"a": together}, "folds").state == "met"
    refused = line_gate({"a": together, "b": apart}, "folds")
    assert refused.state == "not met" and refused.number.startswith("b:")
    soup = plan_experiment(spec_of(lab, FIRST, TUNE, SOUP), lab)
    assert line_gate({"a": soup}, "all").state == "met"


def test_a_mean_must_not_score_below_what_went_into_it() -> None:
    def score(averaged: float, alone: tuple[float, ...], n_windows: int = 100) -> SoupScore:
        return SoupScore("b", "padded_cmap", (averaged,), (alone,), 0.6, n_windows)

    good, near = score(0.5, (0.4, 0.5, 0.5)), score(0.50, (0.48, 0.56, 0.52))
    assert soup_gate([good]).state == soup_gate([near]).state == "met", "within chance of them"
    worst = score(0.3, (0.4, 0.6))
    assert soup_gate([good, worst]).state == "not met"
    assert "b 0.3000, its models alone 0.5000 on average" in soup_gate([worst]).number
    paired = score(0.40, (0.399, 0.41, 0.42, 0.41, 0.42, 0.41, 0.42))
    assert paired.averaged[0] > min(paired.alone[0]) and soup_gate([paired]).state == "not met"
    for few in (score(0.5, (0.4, 0.5), 99), SoupScore("c", "padded_cmap")):
        assert soup_gate([good, few]).state == "no evidence"


def test_a_soup_on_all_data_averages_sources_on_all_data(lab: Lab) -> None:
    plan = plan_experiment(spec_of(lab, FIRST, TUNE, SOUP), lab)
    full = plan_full(lab, plan, "soups")
    (cell,) = full.plan.final_cells
    assert cell.fold is None and [c.fold for c in cell.sources] == [None, None]
    assert [c.seed for c in cell.sources] == [0, 1]
    assert full.lengths == ("tune: 2 steps", "soup: the mean of 2 seeds of tune")


def test_a_request_says_over_what() -> None:
    request = PromotionRequest(weights="averaged", soup="folds")
    assert promote_command(["a"], request).endswith("--weights averaged --soup folds")
    with pytest.raises(PromotionError, match="--soup folds averages weights"):
        PromotionRequest(soup="folds")
    with pytest.raises(PromotionError, match="nothing is averaged"):
        PromotionRequest(weights="averaged", soup="epochs")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("request_", ["full", "averaged"])
def test_stages_and_soups_are_promoted(
    lab: Lab, request_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "SECONDS", 0.2)
    stages = (FIRST, TUNE, SOUP) if request_ == "full" else (FIRST, TUNE)
    spec = spec_of(lab, *stages, **LONG)
    record = json.loads(run_experiment(spec, lab=lab).record.read_text())
    asked = PromotionRequest(weights=request_, register=False, force=True, reason="tried")
    promotion = promote_runs(lab, [record], asked)
    assert promotion.export.n_members == 1
    card = json.loads((promotion.path.parent / "card.json").read_text())
    assert card["weights"] == request_
    states = {gate.name: gate.state for gate in promotion.gates}
    assert promotion.parity.passed and states[PARITY] == states[REPRODUCED] == "met"
    assert states.get(SOUPED) == (None if request_ == "full" else "no evidence")

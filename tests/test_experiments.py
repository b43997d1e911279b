"""The experiments that come with birdlab: each loads, says what it asks, and plans as promised."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_DEMO

import birdlab.sed.model  # noqa: F401  registers built-in kinds before a test can forget them
from birdlab.cli.plans import describe_plan
from birdlab.cli.sweep_plans import describe_sweep
from birdlab.data.demo import build_demo
from birdlab.errors import ResolveError
from birdlab.lab import Lab, open_lab
from birdlab.plan import Plan, plan_experiment
from birdlab.spec import kinds, load_spec
from birdlab.spec.arms import sweep_arms
from birdlab.spec.augmentations import AugmentationSpec
from birdlab.spec.diff import diff_specs
from birdlab.spec.ensemble import load_ensemble
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.kinds import function_of
from birdlab.spec.sweep import FORMS, Arm, load_sweep
from birdlab.sweep.dryrun import check_models, plan_sweep

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
FILES = sorted(path.name for path in EXPERIMENTS.glob("*.yaml"))
SWEEPS = [
    name
    for name in FILES
    if re.search(rf"^({'|'.join(FORMS)}):", (EXPERIMENTS / name).read_text(), re.MULTILINE)
]
LISTED = [name for name in SWEEPS if name != "lr_optuna.yaml"]
"""Sweeps whose arms are known before they run."""
ENSEMBLES = ["ensemble.yaml"]
SINGLE = [name for name in FILES if name not in (*SWEEPS, *ENSEMBLES)]
TABLE_2023 = ROOT.parent / "shared" / "data" / "birdclef2023_train_metadata.csv"

MakeLab = Callable[[], Lab]

TEST_TIME = ("postprocess", "evaluate.hop_s")
"""What changes scores and no weight."""


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extensions that a test loads are forgotten after it."""
    for name in ("_KINDS", "_FUNCTIONS", "_loaded"):
        monkeypatch.setattr(kinds, name, dict(getattr(kinds, name)))


@pytest.fixture(scope="session")
def phones_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More recordings of the species of the tiny competition, at several sample rates."""
    return build_demo(tmp_path_factory.mktemp("data") / "phones", TINY_DEMO, part="phones", jobs=1)


@pytest.fixture(scope="session")
def soundscapes_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled soundscapes of the species of the tiny competition."""
    root = tmp_path_factory.mktemp("data") / "soundscapes"
    return build_demo(root, TINY_DEMO, part="soundscapes", jobs=1)


@pytest.fixture
def make_demo_lab(
    tmp_path: Path,
    tiny_demo: Path,
    abroad_demo: Path,
    phones_demo: Path,
    soundscapes_demo: Path,
    hours: Path,
) -> MakeLab:
    """A function that opens a lab with these experiments and tiny competitions as the demo."""
    shutil.copytree(EXPERIMENTS, tmp_path / "experiments")
    lab_file = (ROOT / "birdlab.toml").read_text()
    (tmp_path / "birdlab.toml").write_text(
        lab_file.replace(
            "[data]",
            f'[data]\ndemo = "{tiny_demo}"\n"demo-abroad" = "{abroad_demo}"\n'
            f'"demo-phones" = "{phones_demo}"\n"demo-environment" = "{tiny_demo}"\n'
            f'"demo-soundscapes" = "{soundscapes_demo}"\n'
            f'"demo-unlabelled" = "{hours}"\n"demo-mislabelled" = "{tiny_demo}"\n',
        )
    )
    return lambda: open_lab(tmp_path)


def arms_of(name: str) -> dict[str, Arm]:
    open_lab(ROOT)
    return {arm.title: arm for arm in sweep_arms(load_sweep(EXPERIMENTS / f"{name}.yaml"))}


def augmentations(spec: ExperimentSpec) -> list[AugmentationSpec]:
    (stage,) = spec.stages
    return list(stage.augment)


@pytest.mark.parametrize("name", FILES)
def test_a_file_opens_with_its_question_and_command(name: str) -> None:
    text = (EXPERIMENTS / name).read_text()
    comment = "\n".join(re.match(r"(#.*\n)+", text + "\n")[0].splitlines())  # type: ignore[index]
    verb = "sweep" if name in SWEEPS else "ensemble" if name in ENSEMBLES else "run"
    assert "?" in comment.splitlines()[0]
    assert f"birdlab {verb} experiments/{name}" in comment
    assert re.search(r"second|minute|hour", comment), "no cost"


@pytest.mark.parametrize("name", SINGLE)
def test_experiments_load(name: str) -> None:
    open_lab(ROOT)
    assert load_spec(EXPERIMENTS / name).stages


def test_the_ensemble_is_made_of_arms_of_the_learning_rates() -> None:
    spec = load_ensemble(EXPERIMENTS / "ensemble.yaml")
    assert spec.name == "ensemble" and len(spec.members) == 2
    assert {f"lr:{title}" for title in arms_of("lr")} > set(spec.members)


@pytest.mark.parametrize("name", LISTED)
def test_sweeps_enumerate_without_twins(name: str) -> None:
    arms = arms_of(name.removesuffix(".yaml"))
    assert len(arms) >= 3
    spec = load_sweep(EXPERIMENTS / name).spec
    assert spec.name == name.removesuffix(".yaml")
    assert spec.expect, "a sweep states its bet"
    assert spec.compared_with is None or spec.compared_with in arms
    for arm in arms.values():
        assert arm.spec.competition.name == "demo"
        assert len(arm.spec.fold_numbers) >= 3


def test_make_demo_all_runs_every_sweep() -> None:
    makefile = (ROOT / "Makefile").read_text()
    listed = re.findall(r"^(?:DEMO|REFERENCE)_SWEEPS := (.*)$", makefile, re.MULTILINE)
    assert sorted(f"{name}.yaml" for name in " ".join(listed).split()) == SWEEPS


def test_augmentation_arms_change_what_their_titles_say() -> None:
    arms = arms_of("augmentations")
    base = arms["base"].spec
    names = [a.name for a in augmentations(base)]
    for title, arm in arms.items():
        changed = {field for field, _, _ in diff_specs(base, arm.spec)} - {"name"}
        mine = augmentations(arm.spec)
        if title.startswith("no "):
            assert mine == [a for a in augmentations(base) if a.name != title[3:]]
            assert title[3:] in names
        elif title.startswith("plus "):
            assert [a for a in mine if a.name != title[5:]] == augmentations(base)
            assert len(mine) == len(names) + 1
        assert all(field.startswith("augment.") for field in changed)
    flipped = [a.name for a in augmentations(arms["plus polarity_flip"].spec)]
    assert flipped.index("polarity_flip") < flipped.index("or_mixup")


def test_clip_lengths_are_compared_on_the_same_windows() -> None:
    arms = arms_of("chunk_length")
    assert {arm.spec.competition.window_s for arm in arms.values()} == {5.0}
    base = arms["5 s"].spec.train

    def audio_s(title: str) -> float:
        train = arms[title].spec.stages[-1].train
        assert train.length.epochs is not None
        return train.length.epochs * train.window_s

    assert audio_s("2.5 s, equal audio") == audio_s("5 s") == 2 * audio_s("2.5 s")
    for title, arm in arms.items():
        if "equal audio" not in title:
            assert arm.spec.train.length == base.length
            assert title == f"{arm.spec.train.window_s:g} s"


def test_ways_to_hear_windows_share_their_training() -> None:
    arms = {title: arm.spec for title, arm in arms_of("context").items()}
    trained: dict[str, set[tuple[float | None, int]]] = {}
    for spec in arms.values():
        heard = spec.evaluate.context_s, spec.evaluate.windows_per_pass
        trained.setdefault(spec.train.model_dump_json(), set()).add(heard)
    assert sorted(map(len, trained.values())) == [1, 2, 2, 3] and len(arms) == 8
    base = arms["5 s"].train
    for spec in arms.values():
        assert spec.train.length == base.length and spec.train.sampler == base.sampler


def test_pretraining_has_a_fair_opponent(make_demo_lab: MakeLab) -> None:
    lab = make_demo_lab()
    sweep = load_sweep(lab.root / "experiments" / "pretraining.yaml")
    plans = {arm.title: plan for arm, plan in plan_sweep(sweep, lab).arms}
    for title in ("with", "with, tuned at 3e-3"):
        first, *tuned = plans[title].cells
        assert (first.stage.name, first.fold, len(tuned)) == ("pretrain", None, 3)
        assert all(cell.start is first for cell in tuned)
        assert list(first.classes) != list(tuned[0].classes)
    epochs = [plans[t].spec.stages[-1].train.length.epochs for t in ("without", "twice as long")]
    assert epochs[0] is not None and epochs[1] == 2 * epochs[0]
    with_lower_rate = plans["with, tuned at 3e-3"].cells[0]
    assert with_lower_rate.cell_id == plans["with"].cells[0].cell_id


@pytest.mark.parametrize("name", LISTED)
def test_every_arm_has_cells_of_its_own(name: str, make_demo_lab: MakeLab) -> None:
    lab = make_demo_lab()
    sweep = load_sweep(lab.root / "experiments" / name)
    if name == "distillation.yaml":
        with pytest.raises(ResolveError, match="'teacher' names no run") as caught:
            plan_sweep(sweep, lab)
        assert "run it first" in str(caught.value)
        return
    plan = plan_sweep(sweep, lab)
    of_recipe = {
        (a.spec.model, a.spec.data.model_dump_json(), a.spec.stages): a
        for arm, a in plan.arms[::-1]
        if not set(arm.delta) & {"output", *TEST_TIME}
    }  # how windows are heard trains nothing
    trained = list(of_recipe.values())
    flat = [cell.cell_id for arm in trained for cell in arm.final_cells]
    seeds = {len(arm.spec.cells.seeds) for arm, _ in plan.arms}
    assert len(flat) == len(set(flat)) == 3 * seeds.pop() * len(trained)
    assert {cell.cell_id for _, arm in plan.arms for cell in arm.final_cells} == set(flat)
    text = describe_sweep(plan)
    assert all(arm.title in text for arm, _ in plan.arms)
    assert "missing" not in text


def test_the_search_asks_points_of_its_space_and_checks_their_ends(make_demo_lab: MakeLab) -> None:
    lab = make_demo_lab()
    plan = plan_sweep(load_sweep(lab.root / "experiments" / "lr_optuna.yaml"), lab)
    assert (len(plan.arms), len(plan.cells), plan.n_points) == (2, 6, 12)
    assert [arm.title for arm, _ in plan.alone] == [
        *("lr=0.001", "lr=0.03", "or_mixup.p=0", "or_mixup.p=1")
    ]
    assert not list(lab.stores.glob("sweeps/*")), "a dry run writes no journal"
    check = check_models(plan)
    assert (check.n, check.bad) == (1, ())


def test_the_factors_race_against_the_base(make_demo_lab: MakeLab) -> None:
    lab = make_demo_lab()
    sweep = load_sweep(lab.root / "experiments" / "one_factor.yaml")
    plan = plan_sweep(sweep, lab)
    assert (len(plan.arms), len(plan.cells)) == (7, 63)
    assert sweep.spec.race is not None
    shorter = load_spec(lab.root / "experiments" / "baseline.yaml", sweep.spec.set)
    base = plan_experiment(shorter, lab)
    assert {cell.cell_id for cell in base.cells} <= set(plan.cells)


def test_the_base_arm_is_trained_once_for_all_sweeps(make_demo_lab: MakeLab) -> None:
    lab = make_demo_lab()
    base = plan_experiment(load_spec(lab.root / "experiments" / "baseline.yaml"), lab)
    wanted = {cell.cell_id for cell in base.cells}
    for name, title in (
        ("augmentations", "base"),
        ("chunk_length", "5 s"),
        ("context", "5 s"),
        ("pretraining", "without"),
        ("reference_negatives", "base"),
    ):
        sweep = load_sweep(lab.root / "experiments" / f"{name}.yaml")
        (arm,) = (arm for arm in sweep_arms(sweep) if arm.title == title)
        assert {cell.cell_id for cell in plan_experiment(arm.spec, lab).cells} <= wanted


def test_a_byte_of_the_extension_changes_the_ids_of_its_cells_only(make_demo_lab: MakeLab) -> None:
    def ids(lab: Lab) -> dict[str, list[str]]:
        sweep = load_sweep(lab.root / "experiments" / "augmentations.yaml")
        return {a.title: [c.cell_id for c in p.cells] for a, p in plan_sweep(sweep, lab).arms}

    before = ids(make_demo_lab())
    extension = make_demo_lab().root / "experiments" / "extensions" / "polarity_flip.py"
    extension.write_text(extension.read_text() + "\n")
    after = ids(make_demo_lab())
    changed = {title for title in before if before[title] != after[title]}
    assert changed == {"plus polarity_flip"}
    assert not set(before["plus polarity_flip"]) & set(after["plus polarity_flip"])


def test_the_extension_flips_the_clips_it_draws_and_a_spectrogram_cannot_tell() -> None:
    from birdlab.sed.batch import ClipBatch
    from birdlab.sed.draws import EpochDraws
    from birdlab.sed.frontend import LogMel
    from birdlab.spec.model import LogMelSpec

    spec = augmentations(arms_of("augmentations")["plus polarity_flip"].spec)[0]
    wave = torch.from_numpy(np.random.default_rng(0).normal(size=(16, 8000)).astype(np.float32))
    targets = torch.eye(16)
    draws = EpochDraws(0, 0, 0).at(np.arange(16), spec.name)
    flipped = function_of(spec)(spec, ClipBatch(wave.clone(), targets, 32_000), draws)
    expected = np.where(draws.happens(spec.p), -1, 1)
    assert set(expected) == {-1, 1}
    assert torch.equal(flipped.wave, wave * torch.from_numpy(expected)[:, None])
    assert torch.equal(flipped.targets, targets)
    log_mel = LogMel(LogMelSpec(n_mels=32))
    assert torch.equal(log_mel(flipped.wave), log_mel(wave))


def test_loading_extensions_needs_no_torch() -> None:
    code = (
        "import sys; from birdlab.lab import open_lab; from birdlab.spec.kinds import kinds\n"
        "open_lab('.')\n"
        "print(*(n for f in ('frontend', 'backbone', 'augmentation') for n, k in kinds(f).items()"
        " if k.source_hash))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    names, torch_is_there = done.stdout.splitlines()
    assert set(names.split()) == {
        *("constant_q", "leaf", "pcen", "ecapa_tdnn"),
        *("pitch", "speed", "polarity_flip"),
    }, done.stderr
    assert torch_is_there == "False"


@pytest.fixture
def lab_2023(tmp_path: Path) -> Lab:
    """A lab that has the training table of 2023 and nothing else."""
    if not TABLE_2023.is_file():
        pytest.skip("the training table of BirdCLEF 2023 is not beside the checkout")
    folder = tmp_path / "data" / "birdclef-2023"
    folder.mkdir(parents=True)
    shutil.copy(TABLE_2023, folder / "train_metadata.csv")
    (tmp_path / "birdlab.toml").write_text('[data]\nbirdclef-2023 = "data/birdclef-2023"\n')
    return open_lab(tmp_path)


def plan_2023(lab: Lab, **changes: object) -> Plan:
    spec = load_spec(
        EXPERIMENTS / "birdclef2023.yaml", {k.replace("__", "."): v for k, v in changes.items()}
    )
    return plan_experiment(spec, lab, strict=False)


@pytest.mark.realbirds
def test_the_plan_of_2023_from_its_table_alone(lab_2023: Lab) -> None:
    text = describe_plan(plan_2023(lab_2023), lab_2023)
    assert re.search(r"base\+extra +base birdclef-2023 +0 +-> 16,941 +0 +-> 264\n", text)
    # One recording stands in the table under two species, which the rule lets stand.
    assert re.search(r"\n +dedupe +16,941 +-> 16,941 +264 +-> 264\n", text)
    assert "16,941 (16,941 base, 0 extra), 264 classes" in text
    assert "validation rows 3,389, 3,388, 3,388, 3,388, 3,388; asked for [0, 1, 2]" in text
    assert "floor 0.4437" in text
    assert "weights   inverse power 0.5: 116.41 (afpkin1, 1 rows) to 5.82" in text
    assert "pretrain: years-822: unknown rows" in text
    assert "50 epochs x 211 steps = 10,550 steps of 64, starts from pretrain (all)" in text
    assert re.search(r"missing +audio of 16,941 of 16,941 recordings: not checked", text)
    for name in ("birdclef-2022", "birdclef-2021", "stage pretrain years-822"):
        assert f"{name}: unknown rows" in text


@pytest.mark.realbirds
def test_the_golden_folds_of_2023_without_the_cleaning_rule(lab_2023: Lab) -> None:
    plan = plan_2023(lab_2023, data__clean=[])
    folds = plan.rows.table["fold"]
    assert folds.value_counts().sort_index().tolist() == [3389, 3388, 3388, 3388, 3388]
    species = plan.rows.table["primary_label"]
    missing = [264 - species[folds != fold].nunique() for fold in range(5)]
    assert missing == [1, 0, 3, 2, 1]

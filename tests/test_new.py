"""`birdlab new`: what it writes loads, dry-runs, names the user's data, and overwrites nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import run_main
from conftest import TINY_SPEC, MakeLab

from birdlab.errors import LabError, SpecError
from birdlab.lab import open_lab
from birdlab.presets.ablation import (
    ABLATIONS,
    ChoiceSpec,
    PresetSpec,
    fill,
    load_preset,
    write_ablation,
)
from birdlab.presets.starting import experiment_text, place_of, save_new, sweep_text
from birdlab.presets.writing import flow_text, spread
from birdlab.scaffold import init_lab
from birdlab.spec import kinds, load_spec
from birdlab.spec.arms import sweep_arms
from birdlab.spec.delta import set_fields
from birdlab.spec.sweep import Sweep, load_sweep
from birdlab.spec.yamlfile import parse_yaml
from birdlab.sweep.dryrun import plan_sweep

ROOT = Path(__file__).parents[1]
PRESETS = [part for parts in ABLATIONS.values() for part in parts]
LACK = {"winners": {"soup of 3 seeds", "distillation from logits", "distillation from embeddings"}}
"""What the tiny base has no place for: its seeds share no start, and no teacher is named."""

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extensions that a test loads are forgotten after it."""
    for name in ("_KINDS", "_FUNCTIONS", "_loaded"):
        monkeypatch.setattr(kinds, name, dict(getattr(kinds, name)))


@pytest.fixture
def cli(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cli]:
    """The command line in a lab that was just made."""
    init_lab(tmp_path)
    monkeypatch.setenv("BIRDLAB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> tuple[int, str, str]:
        return run_main(capsys, monkeypatch, *args)

    yield call


def write_over(base: Path, preset: str, **given: str) -> Sweep:
    """A preset over `base`, written beside it and loaded."""
    path = base.parent / f"{preset}.yaml"
    found = write_ablation(load_preset(preset), preset, base, base.name, given)
    save_new(path, found.text)
    return load_sweep(path)


# ---------------------------------------------------------------- ablations


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_dry_runs_over_a_base_of_ones_own(
    name: str, make_lab: MakeLab, hours: Path
) -> None:
    lab = make_lab()
    (lab.root / "birdlab.local.toml").write_text(f'[data]\nsites = "{hours}"\n')
    open_lab(ROOT)  # its extensions
    lab = open_lab(lab.root)
    given = {"pretrain": "abroad", "extra": "tiny-again", "environment": "abroad"}
    sweep = write_over(lab.root / "tiny.yaml", name, **given, unlabelled="sites")
    plan = plan_sweep(sweep, lab)
    arms = {arm.title: arm.spec for arm, _ in plan.arms}
    preset = load_preset(name)
    assert sweep.spec.compared_with == preset.control == next(iter(arms))
    assert {arm.name for arm in preset.arms} - set(arms) == LACK.get(name, set())
    text = (lab.root / f"{name}.yaml").read_text()
    assert all(f"    # {arm.told}\n" in text for arm in preset.arms)
    assert not {"demo", "demo-abroad"} & {spec.data.base for spec in arms.values()}


def test_arms_that_do_not_fit_the_base_are_comments_with_the_reason(tmp_path: Path) -> None:
    base = tmp_path / "mine.yaml"
    base.write_text(
        TINY_SPEC.replace("base: tiny", "base: mine").replace("4\n", "4\n  loss: bce\n", 1)
    )
    preset = load_preset("winners")
    found = write_ablation(preset, "w", base, "mine.yaml", {})
    assert "--unlabelled NAME" in found.left_out["pseudo round 1"]
    assert "--teacher MODEL" in found.left_out["distillation from logits"]
    assert "different random weights" in found.left_out["soup of 3 seeds"]
    parsed = parse_yaml(found.text, "w.yaml").data
    assert tuple(parsed["grid"]["choice"]) == found.arms
    assert {*found.arms, *found.left_out} == {arm.name for arm in preset.arms}
    more = write_ablation(preset, "w", base, "mine.yaml", {"teacher": "champion"})
    assert parse_yaml(more.text, "w.yaml").data["grid"]["choice"]["distillation from logits"] == {
        "stages.train.distill": {"teacher": {"model": "champion"}, "hop_s": 1.0}
    }
    twin = base.with_name("twin.yaml")
    twin.write_text("base: mine.yaml\ntrain: {secondary: 0.3}\n")
    assert (
        write_ablation(preset, "w", twin, "twin.yaml", {}).left_out["secondary labels count .3"]
        == "the same as your base"
    )


def test_stages_of_the_base_are_kept(tmp_path: Path) -> None:
    base = tmp_path / "mine.yaml"
    last = "last: {start: first, transfer: mapped}"
    stages = f"stages:\n  - first: {{data: years, seeds: shared}}\n  - {last}\n"
    base.write_text(TINY_SPEC + stages)
    arms = {
        arm.title: arm.spec for arm in sweep_arms(write_over(base, "winners", unlabelled="sites"))
    }
    names = [s.name for s in arms["pseudo rounds 1 and 2"].stages]
    assert names == ["first", "last", "round1", "round2"]
    round1 = arms["pseudo round 1"].stages[-1]
    assert (round1.start, round1.transfer) == ("first", "mapped")
    assert round1.pseudo is not None and round1.pseudo.teacher.stage == "last"
    assert [s.soup.of for s in arms["soup of 3 seeds"].stages if s.soup] == ["last"]
    assert arms["pretrained once"].stages[0].data == "years"


def test_too_little_left_of_an_ablation_is_said(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(TINY_SPEC)
    preset = PresetSpec(
        title="t", line="l", control="base", expect="", arms=(
            ChoiceSpec(name="base", told="x", change={}),
            ChoiceSpec(name="nothing", told="y", change={"train.batch": 4}),
        ),
    )  # fmt: skip
    with pytest.raises(SpecError, match="too little is left"):
        write_ablation(preset, "n", tmp_path / "base.yaml", "base.yaml", {})


def test_names_are_filled_in_at_any_depth_and_the_lacking_ones_told() -> None:
    change = {"stages.$last.x": {"$again": None, "y": ["$noise", "$nix"]}, "z": "$n"}
    names = {"last": "tune", "noise": "mine", "n": 3, "again": {"start": "a"}}
    filled, lacking = fill(change, names)
    assert filled == {"stages.tune.x": {"start": "a", "y": ["mine", "$nix"]}, "z": 3}
    assert lacking == ["nix"]


# ---------------------------------------------------------------- files to start from


def test_an_experiment_to_start_from_loads(make_lab: MakeLab) -> None:
    lab = make_lab()
    path = place_of(lab, "first")
    save_new(path, experiment_text(lab, "first", data="tiny", competition="demo", backbone=None))
    spec = load_spec(path)
    assert (spec.data.base, spec.competition.name, spec.project) == ("tiny", "demo", "first")
    assert spec.model.pretrained and [a.name for a in spec.augment] == ["or_mixup", "spec_mask"]
    path.write_text(experiment_text(lab, "12", data="demo", competition=None, backbone="resnet18"))
    assert load_spec(path).project == "12" and load_spec(path).model.backbone == "resnet18"
    with pytest.raises(SpecError, match="which competition is tiny scored as"):
        experiment_text(lab, "first", data="tiny", competition=None, backbone=None)
    with pytest.raises(LabError, match="knows no data set"):
        experiment_text(lab, "first", data="nix", competition="demo", backbone=None)


def test_a_sweep_to_start_from_loads(tmp_path: Path) -> None:
    base = tmp_path / "tiny.yaml"
    base.write_text(TINY_SPEC)
    (tmp_path / "s.yaml").write_text(sweep_text("s", base, "tiny.yaml", {}))
    arms = sweep_arms(load_sweep(tmp_path / "s.yaml"))
    assert [arm.title for arm in arms] == ["base", "lr=0.001", "lr=0.009"]
    grid: dict[str, list[object]] = {"train.loss": ["bce", "focal"]}
    grid |= {"augment.or_mixup.p": [0.1, 0.9]}
    (tmp_path / "g.yaml").write_text(sweep_text("g", base, "tiny.yaml", grid))
    assert len(sweep_arms(load_sweep(tmp_path / "g.yaml"))) == 4


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "x" * 90])
def test_a_name_cannot_leave_the_folder(name: str, make_lab: MakeLab) -> None:
    with pytest.raises(SpecError, match="no name for a file"):
        place_of(make_lab(decoded=False), name)


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("mine")
    with pytest.raises(LabError, match="there already"):
        save_new(tmp_path / "x.yaml", "theirs")
    assert (tmp_path / "x.yaml").read_text() == "mine"


def test_lines_are_as_short_as_they_can_be() -> None:
    value = {"a": {"b": [1, 2.5], "c": "off"}, "stages": [{"x": {}}, {"y": {"z": 1e-4}}]}
    assert flow_text(value["a"]) == "{b: [1, 2.5], c: off}"
    lines = spread(value, "  ")
    assert lines == [
        "  a: {b: [1, 2.5], c: off}",
        "  stages:",
        "    - x: {}",
        "    - y: {z: 0.0001}",
    ]
    wide = {"k": {f"field{i}": list(range(8)) for i in range(6)}}
    assert parse_yaml("\n".join(spread(wide, "")), "x").data == wide


def test_a_change_goes_into_lists_that_nobody_wrote() -> None:
    raw = set_fields({"model": {}}, {"stages.train.soup": {"of": "x"}, "augment.gain": {"p": 1}})
    assert raw["stages"] == [{"train": {"soup": {"of": "x"}}}]
    assert raw["augment"] == [{"gain": {"p": 1}}]
    raw = set_fields({"data": {"base": "x"}}, {"data.clean.cap": 20, "stages.tune": {}})
    assert raw["data"]["clean"] == [{"cap": 20}]
    assert raw["stages"] == [{"train": {}}, {"tune": {}}]


# ---------------------------------------------------------------- the command


def test_the_command_writes_lists_and_refuses(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("new", "ablation")
    assert code == 0 and {line.split()[0] for line in out.splitlines()} == {*ABLATIONS, "next:"}
    code, out, _ = cli("new", "ablation", "reference")
    assert code == 0, out
    made = tmp_path / "experiments" / "reference_kept-baseline.yaml"
    assert f"made {made}, 11 arms" in out
    assert "next: birdlab sweep experiments/reference_dropped-baseline.yaml --dry-run" in out
    before = made.read_bytes()
    code, _, err = cli("new", "ablation", "reference")
    assert code == 1 and "there already" in err and made.read_bytes() == before
    code, _, err = cli("new", "ablation", "winners", "--unlabelled", "nix")
    assert code == 1 and "no data set 'nix'" in err
    code, _, err = cli("new", "ablation", "winers")
    assert code == 1 and "did you mean 'winners'" in err
    code, out, _ = cli("new", "experiment", "first")
    assert code == 0 and out.endswith("next: birdlab run experiments/first.yaml --dry-run\n")
    grid = ("--grid", "train.batch=8,16")
    code, out, _ = cli("new", "sweep", "batches", "--base", "experiments/first.yaml", *grid)
    assert code == 0 and len(sweep_arms(load_sweep(tmp_path / "experiments/batches.yaml"))) == 2
    code, _, err = cli("new", "sweep", "s", "--base", "nix.yaml")
    assert code == 1 and "birdlab new experiment NAME" in err
    code, out, _ = cli("new", "lab", "inner")
    assert code == 0 and (tmp_path / "inner" / "birdlab.toml").is_file()

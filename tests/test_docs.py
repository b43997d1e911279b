"""The documents say what is there: commands, files, targets, specs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
from documents import DOCUMENTS, ROOT, anchors, targets, text_of
from typer.testing import CliRunner

from birdlab.cli import app as cli
from birdlab.cli.purposes import PURPOSES
from birdlab.data.demo import DemoSettings
from birdlab.data.demo.world import split_sizes
from birdlab.evaluate.steps import load_steps
from birdlab.lab import open_lab
from birdlab.spec import load_spec
from birdlab.spec.arms import sweep_arms
from birdlab.spec.kinds import kinds
from birdlab.spec.points import SearchSpace
from birdlab.spec.sweep import load_sweep
from birdlab.sweep.dryrun import list_alone


@pytest.fixture(scope="module")
def commands() -> dict[str, object]:
    if not cli.app.registered_commands:
        cli._register()
    return dict(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


def test_the_first_two_commands_are_demo_and_test() -> None:
    first = re.findall(r"^    (\S.*?)(?: {2,}#.*)?$", text_of("README.md"), re.MULTILINE)
    assert first[:2] == ["make demo", "make test"]


def test_every_command_is_on_the_map(commands: dict[str, object]) -> None:
    section = text_of("README.md").split("## Commands")[1].split("\n## ")[0]
    shown = set(re.findall(r"`birdlab ([a-z]+)", section))
    assert shown == {name for name in commands if name != "cell"}


def test_the_map_and_the_help_have_the_same_purposes(commands: dict[str, object]) -> None:
    section = text_of("README.md").split("## Commands")[1].split("\n## ")[0]
    tables = re.split(r"^\| (\w+) \| \|$", section, flags=re.MULTILINE)[1:]
    on_map = {
        title: {n for row in re.findall(r"^\| (`.+?) \| ", table, re.MULTILINE)
                for n in re.findall(r"`birdlab ([a-z]+)", row)}
        for title, table in zip(tables[::2], tables[1::2], strict=True)
    }  # fmt: skip
    assert on_map == {title: set(names) - {"cell"} for title, names in PURPOSES.items()}
    assert sorted(commands) == sorted(name for names in PURPOSES.values() for name in names)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_named_targets_exist(name: str) -> None:
    known = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for target in re.findall(r"(?:`|^    |^|\$ )make ([a-z-]+)", text_of(name), re.MULTILINE):
        assert target in known or target == "any", target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_pictures_and_named_files_exist(name: str) -> None:
    for target in targets(name):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists() and ROOT in file.resolve().parents, target
        assert not anchor or anchor in anchors(f"{file.resolve().relative_to(ROOT)}"), target
    files = re.findall(
        r"`((?:birdlab|experiments|tests|dashboards|docs)/[\w/]+\.\w+)`", text_of(name)
    )
    for named in files:
        assert (ROOT / named).exists() or named == "experiments/first.yaml", named


@pytest.mark.parametrize("name", ["init", "run", "sweep", "runs", "lb", "promote", "predict"])
def test_a_command_explains_itself(name: str, commands: dict[str, object]) -> None:
    shown = CliRunner().invoke(cli.app, [name, "--help"])
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) > 4


def test_the_sweeps_of_the_sweep_page_have_the_arms_it_says(tmp_path: Path) -> None:
    (tmp_path / "baseline.yaml").write_text(text_of("experiments/baseline.yaml"))
    forms: dict[str, list[list[str]]] = {}
    for block in re.findall(r"```yaml\n(.*?)```", text_of("docs/sweeps.md"), re.DOTALL):
        if not block.startswith("base:"):
            continue
        (tmp_path / "s.yaml").write_text(block)
        sweep = load_sweep(tmp_path / "s.yaml")
        if sweep.spec.optuna is None:
            titles = [arm.title for arm in sweep_arms(sweep)]
            forms.setdefault(sweep.spec.form, []).append(titles)
        else:
            assert len(list_alone(SearchSpace(sweep))) == 6
    assert [len(arms) for arms in forms["grid"]] == [4, 11]
    assert [len(arms) for arms in forms["one_factor"]] == [5, 3]
    assert forms["add_one"] == [["base", "+filtering", "+filtering +longer"]]
    assert [len(arms) for arms in forms["random"]] == [20]
    for title in (*forms["grid"][0], *forms["one_factor"][0], *forms["add_one"][0]):
        assert f"`{title}`" in text_of("docs/sweeps.md"), title


def test_the_lab_file_and_the_spec_of_the_data_page_load(tmp_path: Path) -> None:
    text = text_of("docs/data.md")
    (toml,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "birdlab.toml").write_text(toml)
    lab = open_lab(tmp_path)
    kinds = {name: lab.source(name).kind for name in lab.file.data}
    assert kinds["forest"] == "soundscapes" and kinds["birdclef-2023"] == "auto"
    (yaml,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "two.yaml").write_text(
        f"competition: birdclef-2023\nmodel: {{backbone: resnet18}}\n{yaml}"
    )
    assert len(load_spec(tmp_path / "two.yaml").data.clean) == 8


def test_the_spec_of_the_recipe_page_loads_and_every_kind_is_on_it(tmp_path: Path) -> None:
    text = text_of("docs/recipe.md")
    (yaml,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "all.yaml").write_text(f"competition: demo\ndata: {{base: demo}}\n{yaml}")
    spec = load_spec(tmp_path / "all.yaml")
    assert spec.stages[1].train.accumulate == 2
    for family in (
        "frontend",
        "backbone",
        "head",
        "loss",
        "sampler",
        "optimizer",
        "schedule",
        "augmentation",
    ):
        built_in = {n for n, k in kinds(family).items() if k.cls.__module__.startswith("birdlab.")}
        assert {name for name in built_in if f"`{name}`" not in text} == set()


def test_every_rule_source_and_kind_of_folds_is_on_the_data_page() -> None:
    text = text_of("docs/data.md")
    for family in ("clean", "source", "folds"):
        built_in = {n for n, k in kinds(family).items() if k.cls.__module__.startswith("birdlab.")}
        assert {n for n in built_in - {"demo"} if f"`{n}`" not in text} == set()


def test_every_estimator_is_on_its_page_and_its_example_holds(tmp_path: Path) -> None:
    text = text_of("docs/estimators.md")
    built_in = {n for n, k in kinds("estimator").items() if k.cls.__module__.startswith("birdlab.")}
    assert {name for name in built_in if f"| `{name}` |" not in text} == set()
    yaml = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]
    (tmp_path / "x.yaml").write_text(
        f"competition: demo\ndata: {{base: demo}}\nmodel: {{backbone: x}}\n{yaml}"
    )
    names = [e.name for e in load_spec(tmp_path / "x.yaml").evaluate.estimators]
    assert {name for name in names if name not in text} == set()
    assert len(names) == 6


def test_every_step_is_on_its_page_with_its_defaults_and_the_example_holds(tmp_path: Path) -> None:
    text = text_of("docs/postprocess.md")
    for name, kind in kinds("postprocess").items():
        if kind.cls.__module__.startswith("birdlab."):
            (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
            shared = ("name", "kind", "species")
            for field in (f for f in kind.cls.model_fields if f not in shared):
                default = kind.cls.model_fields[field].default
                shown = list(default) if isinstance(default, tuple) else default
                value = (
                    f"{shown:g}" if isinstance(shown, float) else str(shown).replace("0.0,", "0,")
                )
                assert f"`{field}` {value}" in row, (name, field, value)
    (tmp_path / "steps.yaml").write_text(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    assert [step.kind for step in load_steps(tmp_path / "steps.yaml")] == [
        "smooth", "file_scale", "boost"
    ]  # fmt: skip


def test_the_sizes_of_the_demo_are_those_of_its_settings() -> None:
    text, s = text_of("docs/demo.md"), DemoSettings()
    sizes = split_sizes(s.n_soundscapes)
    for said in (
        f"| species | {s.n_species},",
        f"| recordings | {s.n_recordings} of {s.recording_s[0]:g} to {s.recording_s[1]:g} s",
        f"the rarest species has {s.rarest} |",
        f"| recordists | {s.n_recordists}; {100 * s.unknown_author_share:g} %",
        f"| background | {s.n_backgrounds} recordings",
        f"| soundscapes | {s.n_soundscapes} of {s.soundscape_s} s: {sizes['public']} public, "
        f"{sizes['private']} private, {sizes['unlabelled']} unlabelled |",
    ):
        assert said in text, said

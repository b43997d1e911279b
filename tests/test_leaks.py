"""Leaks from pretraining tables into validation: found, told, refused, accepted by name, mended."""

from __future__ import annotations

import re
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import TINY_SPEC, MakeLab
from hypothesis import given, settings
from hypothesis import strategies as st

from birdlab.cli import app as entry
from birdlab.cli.plans import describe_plan
from birdlab.cli.summaries import summarise_run
from birdlab.data.leaks import LEAKS, find_leaks, refuse_leaks
from birdlab.errors import DataError
from birdlab.lab import Lab, open_lab
from birdlab.plan import Plan, plan_experiment
from birdlab.run import run_experiment
from birdlab.spec.experiment import build_spec, load_spec
from birdlab.spec.yamlfile import parse_yaml

STAGES = (
    "stages:\n  - pretrain: {data: years, augment: [spec_mask], train: {length: {steps: 1}}}\n"
    "  - tune: {start: pretrain, transfer: backbone}\n"
)
RULES = ("recording_id", "content", "author_species")

texts = st.sampled_from(["", "a", "A ", "b", "c"])
rows = st.lists(st.tuples(texts, texts, texts, st.sampled_from(["x", "y"])), max_size=6)


def table_of(content: list[tuple[str, str, str, str]], prefix: str) -> pd.DataFrame:
    table = pd.DataFrame(content, columns=["xc_id", "key", "author", "primary_label"], dtype=object)
    return table.assign(recording=[f"{prefix}{i}" for i in range(len(table))])


def agree(rule: str, one: dict[str, Any], two: dict[str, Any]) -> bool:
    if rule == "author_species":
        names = [row["author"].strip().lower() for row in (one, two)]
        return names[0] == names[1] != "" and one["primary_label"] == two["primary_label"]
    column = {"recording_id": "xc_id", "content": "key"}[rule]
    return one[column].strip() == two[column].strip() != ""


# ---------------------------------------------------------------- what is found


@settings(max_examples=40)
@given(held=rows, first=rows, second=rows)
def test_leaks_are_those_of_comparing_every_pair(
    held: list[Any], first: list[Any], second: list[Any]
) -> None:
    ours = table_of(held, "held").assign(fold=[i % 3 for i in range(len(held))])
    tables = {"one": table_of(first, "one"), "two": table_of(second, "two")}
    expected = []
    for (name, table), rule in product(tables.items(), RULES):
        for row in table.to_dict("records"):
            partners = [h for h in ours.to_dict("records") if agree(rule, row, h)]
            if partners:
                expected.append((name, rule, row["recording"], partners[0]["recording"]))
    found = find_leaks(ours, tables)
    assert list(found.columns) == list(LEAKS)
    columns = ["table", "rule", "recording", "held_out"]
    assert list(found[columns].itertuples(index=False, name=None)) == expected


def test_a_leak_that_is_not_accepted_is_refused_with_counts_rows_and_fixes() -> None:
    ours = table_of([("1", "k", "Ann", "x"), ("2", "l", "Bob", "y")], "held").assign(fold=[0, 1])
    theirs = table_of([("1", "", "ANN", "x"), ("", "", "Cid", "x"), ("2", "", "", "z")], "years")
    leaks = find_leaks(ours, {"years": theirs})
    with pytest.raises(DataError) as caught:
        refuse_leaks(leaks, ())
    told = str(caught.value)
    for part in (
        "2 recordings to pretrain on share something with the validation rows",
        "years, folds 0, 1",
        "years: 2 rows by recording_id: years0 (x, ANN) and held0 of fold 0; "
        "years2 (z, unknown author) and held1 of fold 1",
        "years: 1 rows by author_species: years0 (x, ANN) and held0 of fold 0",
        "- no_recording_id: {kind: dedupe, by: [recording_id], tables: [pretrain], against: base}",
        "by: [author, species]",
        "data.accept_leaks: [recording_id, author_species]",
    ):
        assert part in told, part
    with pytest.raises(DataError, match="1 recordings"):
        refuse_leaks(leaks, ("recording_id",))
    refuse_leaks(leaks, ("recording_id", "author_species"))
    refuse_leaks(leaks.iloc[:0], ())


# ---------------------------------------------------------------- in a plan


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A base of 12 rows; `years` has one of its ids, two of its recordists' birds, and 5 others.

    There is no audio, but for one recording with the same bytes in both.
    """
    base = [("ab"[i % 2], f"author{i % 5}", str(i)) for i in range(12)]
    years = [
        ("b", "someone", "3"),
        ("a", "AUTHOR0 ", ""),
        ("b", "author1", ""),
        *(("ab"[i % 2], f"other{i}", f"9{i}") for i in range(5)),
        ("b", "", ""),
    ]
    for name, content in {"tiny": base, "years": years}.items():
        folder = tmp_path / name
        (folder / "background").mkdir(parents=True)
        (folder / "background.csv").write_text("filename\nwind.ogg\n")
        lines = [f"{s},[],{a},{x},{s}/{name}{i}.ogg" for i, (s, a, x) in enumerate(content)]
        header = "primary_label,secondary_labels,author,xc_id,filename"
        (folder / "train_metadata.csv").write_text("\n".join([header, *lines]) + "\n")
    for file in ("tiny/train_audio/b/tiny5.ogg", "years/train_audio/b/years6.ogg"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_bytes(b"the same bytes")
    (tmp_path / "birdlab.toml").write_text('[data]\ntiny = "tiny"\nyears = "years"\n')
    return open_lab(tmp_path)


def plan(lab: Lab, changes: dict[str, Any] | None = None, strict: bool = False) -> Plan:
    return plan_experiment(
        build_spec(parse_yaml(TINY_SPEC + STAGES, "x.yaml"), changes), lab, strict=strict
    )


def pairs(plan: Plan) -> set[tuple[str, str]]:
    return set(plan.leaks[["rule", "recording"]].itertuples(index=False, name=None))


def test_a_plan_knows_what_pretraining_shares_with_the_folds(lab: Lab) -> None:
    assert pairs(plan(lab)) == {
        ("recording_id", "b/years0.ogg"),
        ("content", "b/years6.ogg"),
        ("author_species", "a/years1.ogg"),
        ("author_species", "b/years2.ogg"),
    }
    assert plan(lab, {"cells.folds": "none"}).leaks.empty, "nothing is held out"
    whole = plan(lab)
    folds = whole.rows.table.set_index("recording")["fold"]
    one = plan(lab, {"cells.folds": [int(1 - folds["b/tiny3.ogg"])]})
    assert ("recording_id", "b/years0.ogg") not in pairs(one), "its fold is not asked for"
    off = plan(lab, {"stages": [{"pretrain": {"data": "years"}}, "tune"]})
    assert off.leaks.empty, "what is scored does not start from it"


def test_the_leak_of_a_stage_before_the_stage_before_counts(lab: Lab) -> None:
    line = [
        {"first": {"data": "years", "train": {"length": {"steps": 1}}}},
        {"second": {"start": "first", "transfer": "backbone"}},
        {"third": {"start": "second"}},
    ]
    assert pairs(plan(lab, {"stages": line})) == pairs(plan(lab))


def test_accepting_a_leak_is_no_other_recipe(lab: Lab) -> None:
    strict, lax = plan(lab), plan(lab, {"data.accept_leaks": ["content"]})
    assert strict.spec_id == lax.spec_id
    assert [c.cell_id for c in strict.cells] == [c.cell_id for c in lax.cells]


def test_the_fixes_that_are_told_leave_nothing_shared(lab: Lab) -> None:
    with pytest.raises(DataError) as caught:
        refuse_leaks(plan(lab).leaks, ("content",))
    told = re.findall(r"- (\w+): (\{kind: dedupe.*\})", str(caught.value))
    assert [name for name, _ in told] == ["no_recording_id", "no_author_species"]
    clean = parse_yaml("a:\n" + "".join(f"- {n}: {rule}\n" for n, rule in told), "y.yaml")
    fixed = plan(lab, {"data.clean": clean.data["a"]})
    assert pairs(fixed) == {("content", "b/years6.ogg")}
    assert len(fixed.data.stages["years"]) == 6, "three went, the one without an author stays"


def test_a_dry_run_shows_leaks_and_what_to_do(lab: Lab) -> None:
    text = describe_plan(plan(lab, {"data.accept_leaks": ["content"]}), lab)
    assert "leak      years: 1 rows by content (accepted): b/years6.ogg (b, other3)" in text
    assert "leak      years: 2 rows by author_species: a/years1.ogg (a, AUTHOR0" in text
    assert "refused before training" in text
    assert "accept_leaks: [author_species, recording_id]" in text
    accepted = describe_plan(plan(lab, {"data.accept_leaks": list(RULES)}), lab)
    assert "refused" not in accepted and "(accepted)" in accepted


# ---------------------------------------------------------------- on the road


def test_a_run_is_refused_before_training_and_from_the_cache(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = make_lab()
    text = (lab.root / "tiny.yaml").read_text() + STAGES.replace("years", "tiny-again")
    (lab.root / "leaky.yaml").write_text(text)
    monkeypatch.chdir(lab.root)
    monkeypatch.setattr(sys, "argv", ["birdlab", "run", "leaky.yaml", "--no-mlflow"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 1
    assert "24 recordings to pretrain on share something" in capsys.readouterr().err
    assert not lab.cells.exists() or not list(lab.cells.glob("[!.]*"))

    changes = {"train.length.steps": 1, "cells.folds": [0]}
    accepted = load_spec(lab.root / "leaky.yaml", {**changes, "data.accept_leaks": list(RULES)})
    result = run_experiment(accepted, lab=lab)
    assert result.trained == 2
    assert f"  accepted     {', '.join(RULES)}: what scored rows taught" in summarise_run(result)
    with pytest.raises(DataError, match="share something"):
        run_experiment(load_spec(lab.root / "leaky.yaml", changes), lab=lab)
    all_data = {**changes, "cells.folds": "none"}
    assert run_experiment(load_spec(lab.root / "leaky.yaml", all_data), lab=lab).trained == 1

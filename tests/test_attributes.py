"""What runs are grouped by: family, checkpoint rule, split, lineage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from birdlab.cellfiles import CARD
from birdlab.lab import Lab
from birdlab.tracking.attributes import family_of, find_lineages, name_attributes


@pytest.mark.parametrize(
    ("backbone", "family"),
    [
        ("eca_nfnet_l0", "eca_nfnet"),
        ("eca_nfnet_l1.ra2_in1k", "eca_nfnet"),
        ("tf_efficientnetv2_s_in21k", "efficientnetv2"),
        ("tf_efficientnetv2_b1_in1k", "efficientnetv2"),
        ("convnextv2_tiny_fcmae_ft_in22k_in1k_384", "convnextv2"),
        ("convnext_small_fb_in22k_ft_in1k_384", "convnext"),
        ("tf_efficientnet_lite0", "efficientnet"),
        ("mobilenetv3_small_050", "mobilenetv3"),
        ("resnet34d", "resnet"),
        ("seresnext26t_32x4d", "seresnext"),
        ("regnety_040", "regnety"),
        ("dm_nfnet_f0", "dm_nfnet"),
        ("maxvit_rmlp_pico_rw_256", "maxvit_rmlp"),
        ("transformer", "transformer"),
        ("2 models", "2 models"),
        ("", ""),
        ("EfficientNet-B0", "efficientnet"),
        ("ResNet-34", "resnet"),
    ],
)
def test_a_family_is_the_name_before_its_size(backbone: str, family: str) -> None:
    assert family_of(backbone) == family


def build_record(run: str, *, sweeps: tuple[str, ...] = (), stages: int = 1, **train: Any) -> Any:
    spec = {
        "model": {"backbone": "resnet34d"},
        "data": {"base": "demo", "folds": {"kind": "stratified_group", "n": 5, "seed": 42}},
        "stages": [{"train": {}}] * (stages - 1) + [{"train": train}],
    }
    return {
        "spec_id": run,
        "sweeps": dict.fromkeys(sweeps),
        "cells": [{"cell_id": f"{run}-{seed}", "seed": seed} for seed in (0, 1)],
        "evaluation": {"rows_hash": "rows"},
        "spec": spec,
    }


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({}, "last"),
        ({"checkpoint": "best"}, "best epoch"),
        ({"average": {"of": "best", "k": 3}}, "average of the best 3"),
        ({"early_stop": 4}, "early stop"),
        ({"ema_decay": 0.99}, "moving average"),
    ],
)
def test_the_last_stage_says_the_checkpoint(
    tmp_path: Path, train: dict[str, Any], words: str
) -> None:
    records = [
        build_record("a", stages=2, **train),
        {**build_record("b"), "spec": None},
        {**build_record("c"), "spec": None, "attributes": {"split": "noleak", "family": "x"}},
    ]
    own, model, ledger = name_attributes(Lab(tmp_path), records)
    assert own == {
        "split": "stratified group 5 of demo",
        "family": "resnet",
        "checkpoint": words,
        "lineage": "a",
    }
    assert model == {
        "split": "stratified group 5 of demo",
        "family": "",
        "checkpoint": "",
        "lineage": "b",
    }
    assert ledger == {"split": "noleak", "family": "x", "checkpoint": "", "lineage": "c"}


def test_runs_that_share_a_sweep_or_a_start_are_one_lineage(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    starts = {"e-0": "pre", "pre": None, "f-0": "pre", "g-0": "d-0"}
    for cell, start in starts.items():
        (lab.cells / cell).mkdir(parents=True)
        card = {"cell_id": cell, "stage": "train", "device": "cpu", "document": {}, "model": {}}
        card |= {"seconds": 1.0, "steps": 1, "seed": 0, "classes": ["a"], "start": start}
        (lab.cells / cell / CARD).write_text(json.dumps(card))
    records = [
        build_record("a", sweeps=("lr",)),
        build_record("b", sweeps=("lr", "loss")),
        build_record("c", sweeps=("loss",)),
        build_record("d"),
        build_record("e", stages=2),
        build_record("f", stages=2),
        build_record("g", stages=2),
        build_record("h"),
    ]
    lineages = find_lineages(lab, records)
    assert lineages == {
        **dict.fromkeys("abc", "loss, lr"),
        **dict.fromkeys("dg", "d"),
        **dict.fromkeys("ef", "e"),
        "h": "h",
    }

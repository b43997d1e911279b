"""The gates of a promotion: what each looks at, and which of them refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fold_tables import build_tables
from scipy import stats

from birdlab.cli.gates import count_states, gate_lines
from birdlab.errors import BirdlabError, DataError, PromotionError
from birdlab.evaluate.blends import MEAN, Blend
from birdlab.evaluate.windows import Windowing
from birdlab.infer.variants import KNOWN
from birdlab.promote.agreement import (
    LEAST,
    MARGIN,
    MIN_WINDOWS,
    N_WINDOWS,
    Agreement,
    Sounds,
    agree,
    correlate_ranks,
    cut_sounds,
    find_sounds,
)
from birdlab.promote.champion import blend_runs, judge_candidate
from birdlab.promote.gates import (
    AGREEMENT,
    BATCH,
    PARITY,
    REPRODUCED,
    Costs,
    Tried,
    agreement_gate,
    budget_gate,
    check_tried,
    list_waiting,
    parity_gates,
    refuse,
    reproduction_gate,
    variant_gate,
)
from birdlab.promote.parity import ParityReport
from birdlab.promote.reproduce import CellReproduction, Reproduction
from birdlab.promote.request import (
    PromotionRequest,
    parse_blend,
    parse_shares,
    promote_command,
)
from birdlab.promote.storedgates import Range, licence_kinds
from birdlab.promote.variant_report import RunScore, VariantReport
from birdlab.study.ensemble_gates import Gate

NAMED = Agreement("a", 0.9, 0.85, 0.75, 100, 3, "fields")
FIELDS = Sounds((), "fields")


def build_windows(n: int = 120, noise: float = 0.3, seed: int = 0) -> list[np.ndarray]:
    """What three fold models and a full one say: one truth, each with noise of its own."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, 4))
    heard = [truth + noise * rng.normal(size=truth.shape) for _ in range(4)]
    return [(1 / (1 + np.exp(-x))).astype(np.float32) for x in heard]


# ---------------------------------------------------------------- rank agreement


def test_agreement_against_scipy() -> None:
    *folds, full = build_windows()
    found = agree("a", full, folds, FIELDS)

    def rho(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.mean([stats.spearmanr(one[:, c], other[:, c]).statistic for c in range(4)]))

    assert found.full == pytest.approx(rho(full, np.mean(folds, axis=0)))
    alone = [
        rho(folds[i], np.mean([folds[j] for j in range(3) if j != i], axis=0)) for i in range(3)
    ]
    assert found.worst == pytest.approx(min(alone))
    assert found.threshold == pytest.approx(min(alone) - MARGIN) and found.passed
    assert (found.n_windows, found.n_models) == (120, 3)


def test_a_model_that_ranks_otherwise_does_not_agree() -> None:
    *folds, full = build_windows()
    rng = np.random.default_rng(1)
    assert not agree("a", rng.permuted(full, axis=0), folds, FIELDS).passed
    assert not agree("a", 1 - full, folds, FIELDS).passed
    still = agree("a", np.full_like(full, 0.5), folds, FIELDS)
    assert np.isnan(still.full) and not still.passed and still.tells
    assert agreement_gate([still]).state == "not met"
    assert np.isnan(agree("a", full, folds[:1], FIELDS).threshold), "one model has no others"
    assert np.isnan(agree("a", full[:99], [f[:99] for f in folds], FIELDS).threshold)


def test_a_sound_that_fold_models_order_each_in_its_own_way_tells_nothing() -> None:
    """Whatever the deployed model says of it: there is no evidence, for a threshold of chance."""
    *folds, full = build_windows()
    rng = np.random.default_rng(1)
    others = [rng.permuted(fold, axis=0) for fold in folds]
    for said in (full, np.mean(others, axis=0), None):
        found = agree("a", said, others, FIELDS)
        assert not found.tells and not found.passed and found.threshold == LEAST
        gate = agreement_gate([found])
        assert gate.state == "no evidence" and "--soundscapes" in gate.command
        assert "do not agree with each other" in gate.number and "fields" in gate.number


def test_training_recordings_are_a_notice_and_refuse_a_model_that_fails_on_them() -> None:
    own = replace(NAMED, seen=True, source="its training recordings", passed_over="none is there")
    gate = agreement_gate([NAMED, own])
    assert gate.state == "notice" and "soundscapes cannot tell: none is there" in gate.number
    assert agreement_gate([NAMED, replace(own, full=0.5)]).state == "not met"


def test_windows_come_from_all_over_the_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(4):
        wave = np.concatenate([np.full(8_000, level) for level in rng.uniform(0.1, 0.9, 100)])
        soundfile.write(tmp_path / f"{i}.wav", wave, 8_000)
    (tmp_path / "broken.opus").write_bytes(b"no audio")
    windowing = Windowing(1.0, 8_000, normalise="recording")
    sounds = find_sounds(None, None, tmp_path)  # type: ignore[arg-type]
    assert sounds.source == f"{tmp_path.name} (5 files)" and not sounds.seen
    heard = [w for w, n in cut_sounds(sounds, windowing) if n == 1]
    assert len(heard) == 4 * (N_WINDOWS // 5) and {w.shape for w in heard} == {(8_000,)}
    assert len({float(w[0]) for w in heard[:60]}) == 60


def test_a_column_that_never_varies_is_left_out() -> None:
    one, other, *_ = build_windows()
    flat = one.copy()
    flat[:, 2] = 0.1
    rest = [0, 1, 3]
    assert correlate_ranks(flat, other) == pytest.approx(
        correlate_ranks(one[:, rest], other[:, rest])
    )


@pytest.mark.parametrize(
    ("found", "state", "told"),
    [
        ([NAMED], "met", "a ρ 0.90, at least 0.75 (worst fold 0.85) on 100 windows of fields"),
        ([NAMED, replace(NAMED, run="b", full=0.74)], "not met", "b ρ 0.74, at least 0.75"),
        ([replace(NAMED, full=np.nan, n_models=1)], "no evidence", "a has 1 fold model"),
        (
            [replace(NAMED, full=np.nan, n_windows=3)],
            "no evidence",
            f"3 windows of fields, {MIN_WINDOWS}",
        ),
        ([replace(NAMED, full=np.nan)], "not met", "a says the same of every window"),
        ([replace(NAMED, worst=np.nan)], "no evidence", "says the same of every window on fields"),
        ([replace(NAMED, n_windows=0, source="")], "no evidence", "has none"),
    ],
)
def test_the_gate_of_agreement(found: list[Agreement], state: str, told: str) -> None:
    gate = agreement_gate(found)
    assert gate.state == state and told in gate.number


# ---------------------------------------------------------------- the file


def test_parity_is_that_of_the_worst_file() -> None:
    good = ParityReport({"real": 1e-6, "silence": 0.0}, 1e-7, 20)
    bad = ParityReport({"real": 1e-6, "square": 3e-4}, 2e-4, 30)
    assert [gate.state for gate in parity_gates([good])] == ["met", "met"]
    worst, alone = parity_gates([bad, good])
    assert (worst.name, worst.state) == (PARITY, "not met") and "3.0e-04 on square" in worst.number
    assert (alone.name, alone.state) == (BATCH, "not met") and "2.0e-04" in alone.number
    hidden = replace(good, by_member={"member_1": {"real": 2e-3, "noise": 1e-6}})
    gate, _ = parity_gates([good, hidden])  # a small share hides a member in the blend
    assert gate.state == "not met" and gate.number == "2.0e-03 on real of member_1, 4 cases"


def test_scores_that_do_not_come_back_refuse() -> None:
    cell = CellReproduction("c", 0, 0, 10, 30, 2e-6, "x", 0.8, 0.8)
    fine, off = Reproduction((cell,)), Reproduction((replace(cell, score_onnx=0.79),))
    assert reproduction_gate({"a": fine}).state == "met"
    gate = reproduction_gate({"a": fine, "b": off})
    assert gate.state == "not met" and "b 0.8000, again 0.7900" in gate.number
    assert "near ties" in gate.command, "every window came back, so only their order can differ"
    lost = Reproduction((replace(cell, largest=0.2),))
    assert "another machine" in reproduction_gate({"a": lost}).command


def test_the_budget_is_the_limit_of_the_competition() -> None:
    assert budget_gate(Costs(9.0, 100.0, 120.0, 120.0, 2)).state == "met"
    gate = budget_gate(Costs(9.0, 110.0, 132.0, 120.0, 2))
    assert (gate.state, gate.threshold) == ("not met", "at most 120 min")
    assert gate.number == "110.0 min on 2 cores, 132.0 with its margin"


def test_what_was_not_tried_waits() -> None:
    request = PromotionRequest()
    names = [gate.name for gate in list_waiting(Tried(), request, "birdlab promote a")]
    assert {PARITY, BATCH, REPRODUCED, AGREEMENT} < set(names)
    folds = list_waiting(Tried(), PromotionRequest(weights="folds"), "")
    assert AGREEMENT not in [gate.name for gate in folds]
    tried = Tried((ParityReport({"real": 0.0}, 0.0, 1),), {}, Costs(1, 1, 1, 2, 2), (NAMED,))
    assert [gate.name for gate in list_waiting(tried, request, "")] == [REPRODUCED]
    assert {gate.state for gate in check_tried(tried)} == {"met"}


def test_the_command_that_brings_evidence_asks_for_the_same_model() -> None:
    request = PromotionRequest(
        weights="averaged", blend=Blend("power", 3.0), shares=(2.0, 1.0), variants=("int8",),
        alias="shadow", register=False, gate=0.01, soundscapes=Path("a b"),
    )  # fmt: skip
    runs = ("1", "2")
    assert promote_command(runs, PromotionRequest()) == "birdlab promote 1 2"
    assert promote_command(runs, request) == (
        "birdlab promote 1 2 --weights averaged --blend power:3.0 --shares 2,1 --gate 0.01 "
        "--soundscapes 'a b' --alias shadow --variant int8 --no-register"
    )
    assert parse_blend("power:3.0") == request.blend and parse_shares("2,1") == request.shares


def test_a_variant_that_fails_is_told_and_refuses_nothing() -> None:
    scores = (RunScore("a", 0.8, 0.7995, 3e-3, 30, 2), RunScore("b", 0.9, 0.9002, 1e-3, 30, 2))
    report = VariantReport(KNOWN["int8"], scores, 0.001, 10.0, 4.0)
    gate = variant_gate(report)
    assert (gate.name, gate.state) == ("variant int8", "met")
    assert gate.number == "-0.00050, 2.50 times as fast"
    failed = variant_gate(replace(report, threshold=0.0001))
    assert failed.state == "notice" and failed.number.startswith("failed: -0.00050")
    request = PromotionRequest(weights="folds", variants=("int8", "openvino"))
    waiting = list_waiting(Tried(variants=(report,)), request, "")
    assert [gate.name for gate in waiting][-1] == "variant openvino"


# ---------------------------------------------------------------- what the lab holds


def test_the_range_of_scores() -> None:
    fine = Range(0.001, 0.9, 0.002, 0.7, 1, 10, 0)
    assert fine.passed
    assert not replace(fine, n_bad=1).passed
    assert not replace(fine, n_flat=3).passed
    assert not replace(fine, p99=0.0025).passed


@pytest.mark.parametrize(
    ("licence", "kinds"),
    [
        ("CC BY 4.0", set()),
        ("CC0 1.0", set()),
        ("CC BY-NC 4.0 (iNaturalist)", {"non-commercial"}),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/", {"non-commercial", "share-alike"}),
        ("Creative Commons Attribution-NonCommercial-NoDerivs 2.5",
         {"non-commercial", "no derivatives"}),
        ("Attribution-ShareAlike", {"share-alike"}),
        ("licence of its own; see the nca page", set()),
        ("", {"unknown"}),
        (" - ", {"unknown"}),
    ],
)  # fmt: skip
def test_licences_that_restrict(licence: str, kinds: set[str]) -> None:
    assert licence_kinds([licence, licence]) == dict.fromkeys(kinds, 2)


def test_the_verdict_on_the_champion() -> None:
    """`worse` alone refuses; what nobody can tell is a notice."""
    runs = {
        "champion": build_tables(300, folds=5, skill=0.15),
        "good": build_tables(300, folds=5, skill=0.45, run=1),
        "bad": build_tables(300, folds=5, skill=0.0, run=2),
        "few": build_tables(60, folds=2, run=3),
        "far": build_tables(300, folds=5, codes=tuple("wxyz")),
    }

    def gate(*names: str, blend: Blend = MEAN) -> Gate:
        tables = blend_runs([runs[name] for name in names], blend, None)
        return judge_candidate(tables, runs["champion"], "@champion")

    assert gate("good").state == "met" and gate("good").number.endswith(": better")
    assert gate("bad").state == "not met" and gate("bad").number.endswith(": worse")
    assert gate("champion").number == "+0.0000 (+0.0000 to +0.0000): within noise"
    assert gate("few").state == "notice"
    with pytest.raises(DataError, match="nothing in common"):
        gate("far")
    assert gate("good", "champion").state == "met", "an ensemble is compared as one run"
    assert gate("good", "bad", blend=Blend("rank")).number != gate("good", "bad").number
    with pytest.raises(BirdlabError, match="in common"):
        gate("good", "far")


# ---------------------------------------------------------------- refusal, requests, words


def test_only_what_is_not_met_or_lacks_evidence_refuses() -> None:
    fine = [Gate("a", "met", "", ""), Gate("b", "notice", "", "")]
    refuse(fine, PromotionRequest())
    for state in ("not met", "no evidence"):
        gates = [*fine, Gate("c", state, "3", "1")]  # type: ignore[arg-type]
        with pytest.raises(PromotionError, match="refused by 1 gate") as caught:
            refuse(gates, PromotionRequest())
        assert "c: " in str(caught.value) and "--force" in str(caught.value)
        refuse(gates, PromotionRequest(force=True, reason="a trial"))


@pytest.mark.parametrize(
    "asked",
    [
        {"weights": "best"},
        {"alias": "../champion"},
        {"force": True},
        {"force": True, "reason": "  "},
        {"reason": "why not"},
        {"gate": 1.5},
        {"variants": ("int4",)},
        {"shares": (0.0, 0.0)},
        {"shares": (1.0, -1.0)},
        {"shares": (1.0, float("nan"))},
    ],
)
def test_requests_that_make_no_sense(asked: dict[str, Any]) -> None:
    with pytest.raises(PromotionError):
        PromotionRequest(**asked)


def test_words_of_the_command_line() -> None:
    assert parse_blend("power") == parse_blend("power:2") == Blend("power", 2.0)
    assert parse_blend("power:1.5").power == 1.5 and parse_blend("rank") == Blend("rank")
    for text in ("median", "mean:2", "power:", "power:x", "power:-1"):
        with pytest.raises(PromotionError, match="unknown way"):
            parse_blend(text)
    assert parse_shares("2,1,1") == (2.0, 1.0, 1.0) and parse_shares("fitted") == "fitted"
    for text in ("", "a,b", "0,0", "1,-1"):
        with pytest.raises(PromotionError):
            parse_shares(text)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_keeps_to_the_width(width: int) -> None:
    gates = [
        Gate("all folds are finished", "not met", "a: 2 of 3", "all folds", "birdlab extend a"),
        Gate("score range", "met", "word " * 40, "wanted " * 9),
    ]
    lines = gate_lines(gates, width)
    helps = lines.index("what helps:")
    assert max(map(len, lines[:helps])) <= width
    assert lines[helps + 1 :] == ["  all folds are finished", "    birdlab extend a"]
    assert sum(line.count("word") for line in lines) == 40, "nothing is cut off"
    assert "what helps:" not in gate_lines(gates[1:], width)
    notice = Gate("CV ranks", "notice", "2 runs", "10 runs", "birdlab lb add a --public SCORE")
    told = gate_lines([notice], width)
    assert told[-3:] == ["what would tell more:", "  CV ranks", f"    {notice.command}"]
    assert count_states(gates) == "2 gates: 1 met, 1 not met"

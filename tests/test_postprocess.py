"""Steps on the probabilities of windows, against loops that do what the formulas say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdlab.errors import OutputsError, SpecError
from birdlab.evaluate.metrics import HIGHEST_PROB, cmap_min5, macro_auc, padded_cmap
from birdlab.evaluate.postprocess import (
    RANKED_WITHIN_CLASS,
    apply_steps,
    check_steps,
    grid_rows,
    why_unchanged,
)
from birdlab.evaluate.poststeps import STEPS, Step
from birdlab.evaluate.steps import (
    load_steps,
    parse_steps,
    portable_mappings,
    steps_text,
    title_of,
    to_mappings,
)
from birdlab.spec.kinds import kinds, load_extension
from birdlab.spec.postprocess import chain_of

ROOT = Path(__file__).parents[1]
METRICS = {"padded_cmap": padded_cmap, "macro_auc": macro_auc, "cmap_min5": cmap_min5}
Table = tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]


def mapping(text: str) -> dict[str, Any]:
    return to_mappings(parse_steps([text]))[0]


def build_table(seed: int, lengths: tuple[int, ...], n_classes: int, hop_s: float) -> Table:
    """Windows of files of these lengths; values repeat, 0 and the highest are among them."""
    rng = np.random.default_rng(seed)
    probs = np.round(rng.random((sum(lengths), n_classes)), 1).astype(np.float32)
    probs = np.minimum(probs, HIGHEST_PROB)
    files = np.repeat(np.arange(len(lengths)) * 3 + 1, lengths)
    end_s = np.concatenate([5 + hop_s * np.arange(n) for n in lengths])
    return probs, files, end_s, [f"c{i}" for i in range(n_classes)]


tables = st.builds(
    build_table,
    st.integers(0, 10_000),
    st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple),
    st.integers(1, 3),
    st.sampled_from([1.0, 2.5]),
)


def top_mean(column: np.ndarray, top: int | str) -> float:
    kept = len(column) if top == "all" else min(int(top), len(column))
    return float(np.mean(sorted(column)[::-1][:kept]))


def slow_smooth(p: np.ndarray, _: np.ndarray, weights: list[float]) -> list[float]:
    middle, out = len(weights) // 2, []
    for t in range(len(p)):
        near = [(w, t + k - middle) for k, w in enumerate(weights) if 0 <= t + k - middle < len(p)]
        out.append(sum(w * p[i] for w, i in near) / sum(w for w, _ in near))
    return out


def slow_lift(
    p: np.ndarray, _: np.ndarray, threshold: float, share: float, min_windows: int
) -> list[float]:
    out, t = list(p), 0
    while t < len(p):
        end = t
        while end < len(p) and p[end] > threshold:
            end += 1
        if end - t >= min_windows:
            for i in range(t, end):
                out[i] = p[i] + share * (max(p[t:end]) - p[i])
        t = max(end, t + 1)
    return out


def slow_shift(p: np.ndarray, end_s: np.ndarray, weights: str) -> list[float]:
    out, window_s = [], end_s[0]
    for t in range(len(p)):
        shared = [max(0.0, window_s - abs(end - end_s[t])) / window_s for end in end_s]
        w = [s if weights == "overlap" else float(s > 0) for s in shared]
        out.append(sum(a * b for a, b in zip(w, p, strict=True)) / sum(w))
    return out


SLOW: dict[str, Callable[..., list[float]]] = {
    "smooth": slow_smooth,
    "file_scale": lambda p, _, top, power: [v * top_mean(p, top) ** power for v in p],
    "boost": lambda p, _, amount, threshold: [v + amount * (max(p) > threshold) for v in p],
    "lift_runs": slow_lift,
    "power": lambda p, _, exponent: [v**exponent for v in p],
    "power_mean": lambda p, _, share, top, exponent: [
        ((1 - share) * v**exponent + share * top_mean(p, top) ** exponent) ** (1 / exponent)
        for v in p
    ],
    "shift_average": slow_shift,
    "clip_range": lambda p, _, range: [min(max(v, range[0]), range[1]) for v in p],
}
"""One column of one file, one value after the other."""

STEPS_TRIED = (
    "smooth",
    "smooth:weights=[0.1,0.2,0.4,0.3,0]",
    "file_scale",
    "file_scale:top=3,power=0.5",
    "file_scale:top=all",
    "boost",
    "boost:amount=1,threshold=0.2,species=[c0]",
    "lift_runs",
    "lift_runs:threshold=0.5,share=0.25,min_windows=3",
    "power:0.5",
    "power:exponent=3,species=[c0]",
    "power_mean",
    "power_mean:share=0.2,top=2,exponent=0.5",
    "shift_average",
    "shift_average:equal",
    "clip_range:range=[0.2,0.7]",
)


def apply_slowly(step: dict[str, Any], table: Table) -> np.ndarray:
    probs, files, end_s, codes = table
    fields = {k: v for k, v in step.items() if k not in ("kind", "species")}
    out = probs.astype(np.float64)
    for column, code in enumerate(codes):
        for file in np.unique(files):
            rows = np.flatnonzero(files == file)
            if code in step.get("species", codes):
                values = out[rows, column].copy()
                out[rows, column] = SLOW[step["kind"]](values, end_s[rows], **fields)
    return np.clip(out, 0, float(HIGHEST_PROB))


# ---------------------------------------------------------------- what each step does


def test_every_kind_is_tried() -> None:
    assert {mapping(text)["kind"] for text in STEPS_TRIED} == set(SLOW)
    assert {name for name, k in kinds("postprocess").items() if k.source_hash is None} == set(SLOW)


@pytest.mark.parametrize("text", STEPS_TRIED)
@settings(max_examples=25, deadline=None)
@given(table=tables)
def test_a_step_does_what_its_formula_says(text: str, table: Table) -> None:
    step = mapping(text)
    out = apply_steps(*table, [step])
    assert out.dtype == np.float32 and out.min() >= 0 and out.max() < 1
    np.testing.assert_allclose(out, apply_slowly(step, table), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(table=tables, chosen=st.lists(st.sampled_from(STEPS_TRIED), max_size=4))
def test_a_chain_is_its_steps_one_by_one_and_file_by_file(table: Table, chosen: list[str]) -> None:
    steps = [mapping(text) for text in chosen]
    whole = apply_steps(*table, steps)
    probs, files, end_s, codes = table
    by_one, smooth_ones = probs, [s for s in steps if "threshold" not in s]
    for step in smooth_ones:  # beside a threshold float32 between the steps may decide
        by_one = apply_steps(by_one, files, end_s, codes, [step])
    np.testing.assert_allclose(apply_steps(*table, smooth_ones), by_one, atol=1e-5)
    for file in np.unique(files):
        rows = files == file
        alone = apply_steps(probs[rows], files[rows], end_s[rows], codes, steps)
        np.testing.assert_array_equal(alone, whole[rows])


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = build_table(3, (40, 1, 17, 30), 4, 2.5)
    steps = [mapping("shift_average"), mapping("lift_runs:0.2"), mapping("file_scale:top=4")]
    whole = apply_steps(*table, steps)
    monkeypatch.setattr("birdlab.evaluate.postprocess.BLOCK_WINDOWS", 20)
    np.testing.assert_array_equal(apply_steps(*table, steps), whole)


def test_no_steps_and_no_windows() -> None:
    table = build_table(0, (3, 2), 2, 5.0)
    np.testing.assert_array_equal(apply_steps(*table, []), table[0])
    empty = apply_steps(np.zeros((0, 2)), [], [], ["a", "b"], [mapping("smooth")])
    assert empty.shape == (0, 2) and empty.dtype == np.float32


def test_a_file_of_one_window_has_no_neighbours() -> None:
    table = build_table(1, (1, 1, 1), 3, 5.0)
    for text in ("smooth", "shift_average", "lift_runs"):
        np.testing.assert_array_equal(apply_steps(*table, [mapping(text)]), table[0])


def test_a_boost_stays_below_one() -> None:
    table = build_table(0, (3,), 2, 5.0)
    full = np.full((3, 2), HIGHEST_PROB)
    out = apply_steps(full, *table[1:], [mapping("boost:amount=1"), mapping("power:0.1")])
    assert (out == HIGHEST_PROB).all()


def test_overlapping_windows_are_averaged_by_the_seconds_they_share() -> None:
    """At a hop of half a window: ½, 1, ½ over 2, and at an end 1, ½ over 1½."""
    probs = np.array([[0.2], [0.4], [0.9], [0.1], [0.5]], np.float32)
    end_s = 5 + 2.5 * np.arange(5)
    files = np.zeros(5, int)
    mean = apply_steps(probs, files, end_s, ["a"], [mapping("shift_average")])
    assert mean[:, 0] == pytest.approx(
        [(0.2 + 0.2) / 1.5, (0.1 + 0.4 + 0.45) / 2, (0.2 + 0.9 + 0.05) / 2,
         (0.45 + 0.1 + 0.25) / 2, (0.05 + 0.5) / 1.5]
    )  # fmt: skip
    assert grid_rows(end_s, 5.0).tolist() == [True, False, True, False, True]
    equal = apply_steps(probs, files, end_s, ["a"], [mapping("shift_average:equal")])
    assert equal[2, 0] == pytest.approx((0.4 + 0.9 + 0.1) / 3)


# ---------------------------------------------------------------- what cannot change a metric


@pytest.mark.parametrize("metric", RANKED_WITHIN_CLASS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    exponent=st.floats(0.1, 3.0),
    species=st.sampled_from([[], ["c0"], ["c1", "c2"]]),
)
def test_a_power_changes_no_score(
    metric: str, seed: int, exponent: float, species: list[str]
) -> None:
    """Values that lie a thousandth apart or are equal: as far apart as float32 needs."""
    rng = np.random.default_rng(seed)
    table = build_table(seed, (12, 5, 8), 3, 5.0)
    probs = (rng.integers(0, 1000, table[0].shape) / 1000).astype(np.float32)
    targets = rng.random(probs.shape) < 0.4
    step = {"kind": "power", "exponent": exponent, "species": species}
    after = apply_steps(probs, *table[1:], [step])
    assert why_unchanged([step], metric)
    assert METRICS[metric](targets, after) == METRICS[metric](targets, probs)


def maxima(table: Table) -> np.ndarray:
    return np.array([table[0][table[1] == file].max(axis=0) for file in np.unique(table[1])])


@pytest.mark.parametrize("text", STEPS_TRIED)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_keeps_the_maxima_of_files_in_order_changes_no_score_of_them(
    text: str, seed: int
) -> None:
    """A score of maxima changes under none of the steps that are said to leave it alone."""
    step = mapping(text)
    if not why_unchanged([step], "macro_auc", of_maxima=True):
        return
    table = build_table(seed, (3, 1, 4, 2, 5, 2), 2, 2.5)
    targets = np.random.default_rng(seed + 1).random((6, 2)) < 0.5
    targets[:2] = [[True, False], [False, True]]
    after = (apply_steps(*table, [step]), *table[1:])
    assert macro_auc(targets, maxima(after)) == macro_auc(targets, maxima(table))


def test_which_steps_leave_the_maxima_of_files_alone() -> None:
    kept = [t for t in STEPS_TRIED if why_unchanged([mapping(t)], "macro_auc", of_maxima=True)]
    assert kept == [
        "file_scale", "lift_runs", "lift_runs:threshold=0.5,share=0.25,min_windows=3",
        "power:0.5", "power:exponent=3,species=[c0]", "power_mean",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", sorted(set(SLOW) - {"power"}))
@pytest.mark.parametrize("metric", RANKED_WITHIN_CLASS)
def test_every_other_step_can_change_the_score(kind: str, metric: str) -> None:
    """Of each there is a table whose score it changes: no kind is called harmless in vain."""
    step = mapping(kind if kind != "clip_range" else "clip_range:range=[0.2,0.7]")
    assert not why_unchanged([step], metric)
    for seed in range(50):
        table = build_table(seed, (6, 6, 6), 2, 2.5)
        targets = np.random.default_rng(seed + 1).random(table[0].shape) < 0.5
        before, after = (
            METRICS[metric](targets, p) for p in (table[0], apply_steps(*table, [step]))
        )
        if before != after:
            return
    pytest.fail("no score changed")


def test_what_is_said_of_a_step_that_changes_nothing() -> None:
    power, smooth = mapping("power"), mapping("smooth")
    said = "cannot change padded_cmap: it keeps the order within every class"
    assert why_unchanged([power, power], "padded_cmap") == said
    assert why_unchanged([power, smooth], "padded_cmap") == ""
    assert why_unchanged([power], "top1") == ""  # it looks at the classes of a row together


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"kind": "smoth", "weights": [1, 2, 1]}, "did you mean 'smooth'"),
        ({"weights": [1, 2, 1]}, "unknown kind of step None"),
        ({"kind": "smooth", "weights": [1, 2, 1], "wieght": 1}, "unknown field 'wieght'"),
        ({"kind": "smooth"}, "the field 'weights' is missing"),
        ({"kind": "smooth", "weights": [1, 2]}, "an odd number"),
        ({"kind": "smooth", "weights": [1, 0, 1]}, "the middle > 0"),
        ({"kind": "power", "exponent": True}, "a number from 0.1 to 10"),
        ({"kind": "power", "exponent": float("nan")}, "a number from 0.1 to 10"),
        ({"kind": "power", "exponent": 10**400}, "a number from 0.1 to 10"),
        ({"kind": "smooth", "weights": [0, 10**400, 0]}, "3 to 121 weights"),
        ({"kind": "boost", "amount": 0, "threshold": 0.5}, "a number above 0 to 1"),
        ({"kind": "boost", "amount": 1, "threshold": 1}, "from 0 to below 1"),
        ({"kind": "file_scale", "top": 0, "power": 1}, "or all"),
        ({"kind": "clip_range", "range": [0.9, 0.1]}, "low < high"),
        ({"kind": "power", "exponent": 2, "species": ["c9"]}, "did you mean 'c"),
        ({"kind": "power", "exponent": 2, "species": "c0"}, "not a list of codes"),
        ({"kind": "power", "exponent": 2, "species": ["c0", "c0"]}, "a code twice"),
        ("smooth", "unknown kind of step None"),
    ],
)
def test_a_step_that_cannot_be_is_refused(step: Any, said: str) -> None:
    with pytest.raises(SpecError) as error:
        apply_steps(*build_table(0, (2,), 2, 5.0), [step])
    assert said in str(error.value)


def test_steps_that_are_no_list_are_refused() -> None:
    with pytest.raises(SpecError, match="not a list"):
        check_steps({"kind": "smooth"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": np.array([0, 1, 0])}, "not sorted"),
        ({"end_s": np.array([5.0, 15.0, 10.0])}, "not sorted"),
        ({"end_s": np.array([5.0, 5.0, 10.0])}, "not sorted"),
        ({"end_s": np.array([5.0, 10.0])}, "do not fit"),
        ({"files": np.array([0.0, 0.0, 0.0])}, "not whole numbers"),
        ({"probs": np.full((3, 2), np.nan)}, "not a probability"),
        ({"probs": np.full((3, 2), 1.1)}, "not a probability"),
        ({"codes": ["a"]}, "do not fit"),
    ],
)
def test_windows_that_do_not_fit_are_refused(change: dict[str, Any], said: str) -> None:
    table: dict[str, Any] = {
        "probs": np.zeros((3, 2)),
        "files": np.zeros(3, int),
        "end_s": np.array([5.0, 10.0, 15.0]),
        "codes": ["a", "b"],
    }
    with pytest.raises(OutputsError, match=said):
        apply_steps(**(table | change), steps=[])


def test_windows_of_different_lengths_have_no_common_shifts() -> None:
    table = build_table(0, (3, 3), 2, 2.5)
    with pytest.raises(OutputsError, match="differ in length"):
        apply_steps(table[0][1:], table[1][1:], table[2][1:], table[3], [mapping("shift_average")])


def test_a_step_of_an_extension_that_gives_no_probabilities_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for made in (lambda p, w: p * np.nan, lambda p, w: p[1:]):
        monkeypatch.setitem(STEPS, "odd", Step(made, {}))
        with pytest.raises(OutputsError, match="the step odd gave something else"):
            apply_steps(*build_table(0, (3,), 2, 5.0), [{"kind": "odd"}])


def test_windows_without_overlap_have_no_shifts_to_average() -> None:
    with pytest.raises(OutputsError, match="no overlapping windows"):
        apply_steps(*build_table(0, (3, 1), 2, 5.0), [mapping("shift_average")])


# ---------------------------------------------------------------- how steps are written


def test_steps_as_yaml_as_json_and_as_typed(tmp_path: Path) -> None:
    (tmp_path / "steps.yaml").write_text(
        "steps:\n  - smooth: [1, 2, 1]\n  - boost: {amount: 0.2, species: [c0]}\n"
        "  - file_scale\n  - again: {kind: smooth}\n"
    )
    steps = load_steps(tmp_path / "steps.yaml")
    typed = parse_steps(
        ["smooth:[1,2,1]", "boost:amount=0.2,species=[c0]", "file_scale", "again=smooth"]
    )
    assert to_mappings(steps) == to_mappings(typed)
    twice = parse_steps(["smooth", "smooth:[1,2,1]", "smooth"])
    assert [title_of(step) for step in twice] == ["smooth", "smooth:weights=[1,2,1]", "smooth"]
    assert [title_of(step) for step in typed] == [
        "smooth:weights=[1,2,1]", 'boost:amount=0.2,species=["c0"]', "file_scale", "again=smooth"
    ]  # fmt: skip
    (tmp_path / "steps.json").write_text(steps_text(steps))
    saved = load_steps(tmp_path / "steps.json")
    assert (
        to_mappings(saved)
        == to_mappings(steps)
        == json.loads((tmp_path / "steps.json").read_text())
    )
    check_steps(to_mappings(steps), ["c0", "c1"])
    with pytest.raises(SpecError, match="names a field twice"):
        parse_steps(["smooth:weights=[1,2,1],weights=[1,1,1]"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps: [smoth]", "did you mean 'smooth'"),
        ("steps:\n  - smooth: {weight: [1, 2, 1]}", "did you mean 'weights'"),
        ("steps:\n  - smooth\n  - smooth", "more than once"),
        ("steps:\n  - boost: 2", "less than or equal to 1"),
        ("chain: [smooth]", "unknown field 'chain'"),
        ("- smooth", "holds no mapping"),
    ],
)
def test_a_file_of_steps_is_checked(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "steps.yaml").write_text(text)
    with pytest.raises(SpecError) as error:
        load_steps(tmp_path / "steps.yaml")
    assert said in str(error.value) and "steps.yaml" in str(error.value)


@pytest.mark.parametrize("text", ["{", "3", '[{"kind": "smooth", "weigths": [1]}]', '["x"]'])
def test_a_json_file_of_steps_is_checked(tmp_path: Path, text: str) -> None:
    (tmp_path / "steps.json").write_text(text)
    with pytest.raises(SpecError, match=r"steps\.json"):
        load_steps(tmp_path / "steps.json")


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(SLOW)),
    data=st.data(),
)
def test_both_forms_allow_the_same(kind: str, data: st.DataObject) -> None:
    """What the typed form takes the numpy form takes, and the other way round."""
    numbers = st.one_of(
        st.floats(-1, 12, allow_nan=False), st.integers(-1, 12), st.sampled_from([0.1, 10.0, 1.0])
    )
    values = st.one_of(
        numbers, st.lists(numbers, max_size=4), st.sampled_from(["all", "equal", "x"])
    )
    step = {"kind": kind} | {name: data.draw(values) for name in STEPS[kind].fields}
    accepted = []
    for check in (lambda: check_steps([step]), lambda: chain_of([step], "here")):
        try:
            check()
            accepted.append(True)
        except SpecError:
            accepted.append(False)
    assert accepted[0] == accepted[1], step


def test_a_kind_of_an_extension_works_in_the_lab_and_stays_there() -> None:
    load_extension(ROOT / "experiments" / "extensions" / "minus_median.py")
    steps = parse_steps(["minus_median:share=1,species=[c1]"])
    table = build_table(5, (5, 4), 2, 5.0)
    out = apply_steps(*table, to_mappings(steps))
    expected = table[0].copy()
    for rows in (slice(0, 5), slice(5, 9)):
        expected[rows, 1] -= np.median(expected[rows, 1])
    np.testing.assert_allclose(out, np.clip(expected, 0, HIGHEST_PROB), atol=1e-6)
    assert not why_unchanged(to_mappings(steps), "padded_cmap")
    with pytest.raises(SpecError, match="only this lab knows"):
        portable_mappings(steps)
    with pytest.raises(SpecError, match="needs overlapping windows"):
        portable_mappings(parse_steps(["smooth", "shift_average"]))
    assert portable_mappings(parse_steps(["smooth"])) == to_mappings(parse_steps(["smooth"]))

"""Windows with soft labels: which pass, where crops lie, what batches and weights become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clips import RATE
from hypothesis import given
from hypothesis import strategies as st

from birdlab.data.classes import ClassList
from birdlab.errors import DataError
from birdlab.sed.pseudo import (
    SoftLabels,
    build_pseudo_rows,
    choose_windows,
    summarise_labels,
)
from birdlab.sed.takes import Takes
from birdlab.spec.teaching import PseudoSpec

CLASSES = ClassList(("a", "b", "c"))
N = 400


def spec_of(**fields: Any) -> PseudoSpec:
    given = {"soundscapes": ["x"], "teacher": "first", "threshold": 0.0, **fields}
    return PseudoSpec.model_validate(given)


def labels_of(
    probs: Any,
    start_s: Any,
    end_s: Any,
    file: Any = None,
    codes: tuple[str, ...] = ("a", "b", "c"),
    keys: tuple[str, ...] = ("k",),
) -> SoftLabels:
    probs = np.asarray(probs, np.float32)
    file = np.zeros(len(probs), np.int64) if file is None else np.asarray(file, np.int64)
    starts, ends = np.asarray(start_s, np.float64), np.asarray(end_s, np.float64)
    return SoftLabels(keys, file, starts, ends, probs, codes, "t")


def one_file(n_samples: int) -> Takes:
    return Takes(np.array([7]), np.array([0]), np.array([n_samples]))


# ---------------------------------------------------------------- which windows, which labels


probs_of = st.lists(
    st.tuples(*[st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])] * 3), min_size=1, max_size=12
)


@given(probs_of, st.sampled_from([0.0, 0.3, 0.5]), st.sampled_from([0.0, 0.2, 0.6]), st.data())
def test_windows_that_pass_and_their_sums_follow_plain_loops(
    probs: list[tuple[float, ...]], threshold: float, floor: float, data: st.DataObject
) -> None:
    power = data.draw(st.sampled_from([0.5, 1.0, 2.0]))
    spec = spec_of(threshold=threshold, floor=floor, power=power)
    starts = np.arange(len(probs), dtype=np.float64)
    labels = labels_of(probs, starts, starts + 1, codes=("b", "z", "a"))
    found = choose_windows(labels, spec, CLASSES)
    as_stored = np.asarray(probs, np.float32).astype(np.float64)
    passed, sums, by_class = [], [], {"a": 0.0, "b": 0.0}
    for row, (b, _unknown, a) in enumerate(as_stored.tolist()):
        if max(a, b) >= threshold:
            soft = {"a": a, "b": b}
            soft = {code: p**power if p >= floor else 0.0 for code, p in soft.items()}
            passed.append(row)
            sums.append(sum(soft.values()))
            by_class = {code: by_class[code] + soft[code] for code in soft}
    assert found.windows.tolist() == passed
    assert found.sums == pytest.approx(sums)
    table = summarise_labels(labels, spec, CLASSES).set_index("class")
    assert table["known"].tolist() == [True, True, False]
    assert table["label_sum"].tolist() == pytest.approx([*by_class.values(), 0])
    assert table["highest"].tolist() == [max(as_stored[:, 2]), max(as_stored[:, 0]), 0]
    assert table.loc["b", "windows"] == sum(as_stored[:, 0] >= threshold)


def test_what_cannot_be_drawn_is_refused() -> None:
    weak = labels_of([[0.1, 0.2, 0.05]], [0], [1])
    with pytest.raises(DataError, match="none of 1 windows") as caught:
        build_pseudo_rows(weak, spec_of(threshold=0.5), CLASSES, one_file(300), RATE)
    assert "0.2" in str(caught.value.got)
    silent = spec_of(floor=0.5)
    with pytest.raises(DataError, match="labels of all windows are 0"):
        build_pseudo_rows(weak, silent, CLASSES, one_file(300), RATE)
    alike = spec_of(floor=0.5, draw="uniform")
    rows = build_pseudo_rows(weak, alike, CLASSES, one_file(300), RATE)
    assert rows.cut(0, 0.0, 200)[1].tolist() == [0, 0, 0], "a clip without a call"
    with pytest.raises(DataError, match="knows none"):
        choose_windows(weak, spec_of(), ClassList(("x", "y")))
    with pytest.raises(DataError, match="outside their recordings"):
        build_pseudo_rows(weak, spec_of(), CLASSES, Takes(*np.zeros((3, 1), np.int64)), RATE)
    with pytest.raises(DataError, match="do not fit together"):
        labels_of([[0.1, 0.2]], [0], [1])


# ---------------------------------------------------------------- where crops lie


@pytest.mark.parametrize("crop", [1, 50, 99, 100, 101, 150, 200, 333, 900])
@pytest.mark.parametrize("hop", [50, 100])
def test_crops_lie_in_or_around_their_window_and_have_the_labels_that_they_cover(
    crop: int, hop: int
) -> None:
    """Against a loop over the windows; the last one reaches beyond the end of its file."""
    width, length, rng = 100, 730, np.random.default_rng(crop)
    starts = np.arange(0, 700 + 1, hop)
    order = rng.permutation(len(starts))  # stored in any order
    probs = rng.random((len(starts), 3)).astype(np.float32)
    labels = labels_of(probs[order], starts[order] / RATE, (starts[order] + width) / RATE)
    rows = build_pseudo_rows(labels, spec_of(power=2.0), CLASSES, one_file(length), RATE)
    places: dict[int, set[int]] = {}
    for window in range(len(rows)):
        own = int(order[window])
        first, last = int(starts[own]), min(int(starts[own]) + width, length)
        for u in np.linspace(0, 1, 41)[:-1]:
            (place, start, n), soft = rows.cut(window, float(u), crop)
            places.setdefault(own, set()).add(start)
            assert (place, n) == (7, min(crop, length))
            assert 0 <= start <= length - n
            if n <= last - first:
                assert first <= start <= last - n
                covered = [own]
            else:
                assert start <= first
                assert start + n >= last
                ends = [min(int(s) + width, length) for s in starts]
                covered = [
                    k
                    for k, (s, e) in enumerate(zip(starts.tolist(), ends, strict=True))
                    if 2 * (min(e, start + n) - max(s, start)) > e - s
                ]
            assert own in covered
            expected = probs[covered].max(axis=0).astype(np.float64) ** 2
            assert np.array_equal(soft, expected.astype(np.float32))
    inner = len(places[2 * 100 // hop])
    assert inner == (1 if crop in (100, 900) else inner)
    assert crop in (99, 100, 101, 900) or inner > 10, "a crop may lie anywhere"


@pytest.mark.parametrize("draw", ["uniform", "confidence"])
def test_windows_are_drawn_alike_or_by_the_sum_of_their_labels(draw: str) -> None:
    probs = [[0.9, 0.0, 0.0], [0.02, 0.0, 0.0], [0.3, 0.3, 0.0], [0.5, 0.1, 0.0]]
    labels = labels_of(probs, range(4), range(1, 5))
    given = spec_of(threshold=0.1, draw=draw, floor=0.2)
    rows = build_pseudo_rows(labels, given, CLASSES, one_file(800), RATE)
    assert len(rows) == 3
    u = (np.arange(9000) + 0.5) / 9000
    shares = np.bincount(rows.pick(u), minlength=3) / 9000
    weights = np.array([0.9, 0.6, 0.5]) if draw == "confidence" else np.ones(3)
    assert shares == pytest.approx(weights / weights.sum(), abs=1e-3)
    assert rows.pick(np.array([np.nextafter(1, 0)])).tolist() == [2]

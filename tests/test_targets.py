"""Targets and masks of training rows, against loops over label lists."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdlab.sed.targets import Targets

N_CLASSES = 6
rows_of_labels = st.lists(
    st.tuples(st.integers(0, N_CLASSES - 1), st.lists(st.integers(0, N_CLASSES - 1), max_size=4)),
    min_size=1,
    max_size=8,
)


def targets_of(
    labels: list[tuple[int, list[int]]], secondary: float | Literal["mask"] = 1.0
) -> Targets:
    return Targets(
        np.array([primary for primary, _ in labels], np.int32),
        np.cumsum([0, *(len(also) for _, also in labels)]).astype(np.int64),
        np.array([c for _, also in labels for c in also], np.int32),
        N_CLASSES,
        secondary,
    )


@given(rows_of_labels, st.sampled_from([0.0, 0.3, 1.0, "mask"]), st.data())
def test_dense_targets_and_masks_follow_the_lists(
    labels: list[tuple[int, list[int]]], secondary: Any, data: st.DataObject
) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, len(labels) - 1), max_size=10)), np.int64)
    targets = targets_of(labels, secondary)
    for found, at in ((targets, rows), (targets.take(rows), np.arange(len(rows)))):
        assert found.secondary == secondary
        dense, mask = found.dense(at), found.masks(at)
        assert dense.shape == (len(rows), N_CLASSES)
        assert dense.dtype == np.float32
        assert (mask is None) == (secondary != "mask")
        for place, row in enumerate(rows):
            primary, also = labels[row]
            for column in range(N_CLASSES):
                is_secondary = column in also and column != primary
                value = 0.0 if secondary == "mask" else secondary
                expected = 1.0 if column == primary else value if is_secondary else 0.0
                assert dense[place, column] == np.float32(expected)
                if mask is not None:
                    assert mask[place, column] == (not is_secondary)


def test_a_masked_label_is_0_and_does_not_count() -> None:
    targets = targets_of([(2, [0, 2]), (1, [])], "mask")
    rows = np.array([0, 1, 0])
    assert targets.dense(rows).tolist() == [
        [0, 0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
    ]
    mask = targets.masks(rows)
    assert mask is not None
    assert mask.dtype == np.bool_
    assert np.argwhere(~mask).tolist() == [[0, 0], [2, 0]]


@pytest.mark.parametrize("secondary", [0.0, 0.5, 1.0])
def test_weighted_labels_need_no_mask(secondary: float) -> None:
    targets = targets_of([(2, [0])], secondary)
    assert targets.masks(np.array([0])) is None
    assert targets.dense(np.array([0])).tolist() == [[secondary, 0, 1, 0, 0, 0]]

"""The class list: order, identity, targets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdlab.data.classes import ClassList
from birdlab.errors import DataError

CODES = st.lists(st.text("abc123", min_size=1, max_size=4), min_size=1, max_size=12, unique=True)


@given(CODES)
def test_the_list_owns_the_order(codes: list[str]) -> None:
    classes = ClassList(tuple(codes))
    assert list(classes) == codes
    assert len(classes) == len(codes)
    assert [classes.index[code] for code in codes] == list(range(len(codes)))
    assert all(code in classes for code in codes)
    assert "zzz" not in classes


@given(CODES)
def test_the_digest_names_codes_and_order(codes: list[str]) -> None:
    classes = ClassList(tuple(codes))
    assert classes.digest == ClassList(tuple(codes)).digest
    assert len(classes.digest) == 12
    if len(codes) > 1:
        assert ClassList(tuple(codes[::-1])).digest != classes.digest


def test_the_digest_stays_as_it_was() -> None:
    assert ClassList(("abethr1", "nan", "42")).digest == "8249ded0ae3f"


def test_joined_codes_do_not_share_a_digest() -> None:
    assert ClassList(("a,b",)).digest != ClassList(("a", "b")).digest


@given(CODES, st.data())
def test_targets_against_one_row_at_a_time(codes: list[str], data: st.DataObject) -> None:
    classes = ClassList(tuple(codes))
    primary = data.draw(st.lists(st.sampled_from(codes), max_size=6))
    label = st.sampled_from([*codes, "zzz"])
    secondary = [tuple(data.draw(st.lists(label, max_size=3))) for _ in primary]
    targets = classes.encode(primary, secondary, secondary_weight=0.3)
    assert targets.shape == (len(primary), len(codes))
    assert targets.dtype == np.float32
    for row, first, others in zip(targets, primary, secondary, strict=True):
        for code, value in zip(codes, row, strict=True):
            wanted = 1.0 if code == first else 0.3 if code in others else 0.0
            assert value == np.float32(wanted)


def test_unknown_secondary_labels_are_counted() -> None:
    classes = ClassList(("a", "b"))
    secondary = [("x", "b"), ("y", "x"), ()]
    assert classes.count_unknown(secondary) == {"x": 2, "y": 1}
    assert classes.encode(["a", "b", "a"], secondary).sum() == 4


def test_every_unknown_primary_label_is_listed() -> None:
    labels = [f"new{n}" for n in range(30)]
    with pytest.raises(DataError) as caught:
        ClassList(("a",)).encode(["a", *labels], [()] * 31)
    assert "30 primary labels" in caught.value.what
    assert all(repr(label) in str(caught.value) for label in labels)


def test_labels_of_unequal_length_are_refused() -> None:
    with pytest.raises(DataError, match="differ in length"):
        ClassList(("a",)).encode(["a"], [])


@pytest.mark.parametrize("codes", [(), ("a", ""), ("a", "b", "a")])
def test_a_list_without_clear_codes_is_refused(codes: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="each once"):
        ClassList(codes)


@pytest.mark.parametrize("code", [42, 1e3, None, float("nan")])
def test_a_code_that_is_no_text_is_refused_with_the_fix(code: object) -> None:
    with pytest.raises(DataError) as caught:
        ClassList(("a", code))  # type: ignore[arg-type]
    assert "quotes" in str(caught.value)
    assert repr(code) in str(caught.value)


def test_positions_map_columns_by_name() -> None:
    small, large = ClassList(("c", "x", "a")), ClassList(("a", "b", "c"))
    assert small.positions_in(large).tolist() == [2, -1, 0]
    scores = np.array([[1.0, 2.0, 3.0]])
    assert scores[:, ClassList(("c", "a")).positions_in(large)].tolist() == [[3.0, 1.0]]

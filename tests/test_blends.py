"""Blends of members: golden numbers, numpy against torch, ranks against scipy, label sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from birdlab.errors import OutputsError
from birdlab.evaluate.blends import Blend, BlendKind, blend_members, class_shares, rank_rows

GOLDEN = [("mean", 1.0, 0.5), ("power", 2.0, 0.580230), ("geometric", 1.0, 0.416017)]


@pytest.mark.parametrize(("kind", "power", "golden"), GOLDEN)
def test_golden_numbers_in_numpy_and_torch(kind: BlendKind, power: float, golden: float) -> None:
    values = (0.2, 0.4, 0.9)
    blend = Blend(kind, power)
    arrays = [np.full((2, 3), v, np.float32) for v in values]
    tensors = [torch.full((2, 3), v) for v in values]
    np.testing.assert_allclose(blend_members(arrays, blend), golden, atol=5e-7)
    np.testing.assert_allclose(blend_members(tensors, blend).numpy(), golden, atol=1e-6)
    alone = blend_members(arrays, blend, [0.0, 1.0, 0.0])
    np.testing.assert_allclose(alone, 0.4, atol=1e-6)


@pytest.mark.parametrize("power", [0.1, 8.0])
def test_the_least_and_the_greatest_exponent_work_in_float32(power: float) -> None:
    low = np.array([[1e-6, 1e-5, 1e-4, 1e-3, 0.1]])
    exact = blend_members([low, low / 2], Blend("power", power))
    found = blend_members(
        [low.astype(np.float32), low.astype(np.float32) / 2], Blend("power", power)
    )
    np.testing.assert_allclose(found, exact, atol=2e-5)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_ranks_are_those_of_scipy(column: list[int]) -> None:
    values = np.asarray(column, float)[:, None] / 6
    expected = (stats.rankdata(values[:, 0]) - 0.5) / len(values)
    np.testing.assert_allclose(rank_rows(values)[:, 0], expected)


def test_a_class_is_blended_from_the_members_that_know_it() -> None:
    known = np.array([[True, True, False], [True, False, True]])
    shares = class_shares([1, 3], known)
    np.testing.assert_allclose(shares, [[0.25, 1, 0], [0.75, 0, 1]])
    probs = [np.array([[0.4, 0.5, 0.0]]), np.array([[0.8, 0.0, 0.2]])]
    np.testing.assert_allclose(blend_members(probs, Blend(), list(shares)), [[0.7, 0.5, 0.2]])
    np.testing.assert_allclose(class_shares([1, 3]), [[0.25], [0.75]])


@pytest.mark.parametrize("kind", ["mean", "power", "geometric", "rank"])
def test_a_class_without_a_share_comes_out_as_zero(kind: BlendKind) -> None:
    probs = [np.array([[0.4, 0.5], [0.2, 0.1]]), np.array([[0.8, 0.0], [0.3, 0.9]])]
    shares = [np.array([0.25, 0.0]), np.array([0.75, 0.0])]
    blended = blend_members(probs, Blend(kind), shares)
    assert not blended[:, 1].any()
    assert blended[:, 0].all()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(OutputsError, match="no member of the ensemble knows"):
        class_shares([1, 0], [[True, False], [True, True]])
    for weights in ([], [-1, 2], [0, 0], [float("nan")]):
        with pytest.raises(OutputsError, match="do not fit"):
            class_shares(weights)
    with pytest.raises(OutputsError, match="unknown way"):
        Blend("median")  # type: ignore[arg-type]
    for power in (0, 0.05, 20, float("nan")):
        with pytest.raises(OutputsError, match="exponent"):
            Blend("power", power)
    with pytest.raises(OutputsError, match="do not fit"):
        blend_members([np.zeros((1, 1))], Blend(), [0.5, 0.5])

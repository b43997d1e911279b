"""Which rows an epoch draws, against the formula and against counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdlab.sed.draws import generator
from birdlab.sed.sampler import draw_rows, row_weights
from birdlab.sed.steps import count_steps
from birdlab.spec.recipe import InversePower, Length, Plain

LABELS = ["common"] * 90 + ["rare"] * 9 + ["single"]


def test_golden_weight_of_2023() -> None:
    labels = ["rare", *(f"c{i % 263}" for i in range(33_110))]
    weights = row_weights(labels, 0.5)
    assert weights[0] == pytest.approx(181.964282, abs=5e-7)
    assert row_weights(labels, 0.0) == pytest.approx(np.ones(len(labels)))


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=60), st.floats(0, 2))
def test_weights_follow_the_formula(labels: list[str], power: float) -> None:
    weights = row_weights(labels, power)
    for label, weight in zip(labels, weights, strict=True):
        assert weight == pytest.approx((labels.count(label) / len(labels)) ** -power)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_rows_come_as_often_as_their_weight_says(power: float) -> None:
    n = 40_000
    rows = draw_rows(InversePower(power=power), LABELS, n, generator("test", power))
    weights = row_weights(LABELS, power)
    for label in ("common", "rare", "single"):
        mine = np.array([x == label for x in LABELS])
        expected = weights[mine].sum() / weights.sum()
        found = mine[rows].mean()
        assert abs(found - expected) < 4.5 * np.sqrt(expected * (1 - expected) / n)


def test_rows_are_drawn_with_replacement() -> None:
    rows = draw_rows(InversePower(), LABELS, len(LABELS), generator("with"))
    assert len(set(rows.tolist())) < len(LABELS)
    assert (rows == 99).sum() > 1, "the single recording of a species comes several times"
    assert rows.min() >= 0
    assert rows.max() < len(LABELS)


def test_one_row_is_enough() -> None:
    for spec in (InversePower(), Plain()):
        assert draw_rows(spec, ["a"], 3, generator("one")).tolist() == [0, 0, 0]


def test_plain_gives_every_row_once_before_any_twice() -> None:
    rows = draw_rows(Plain(), LABELS, 250, generator("plain"))
    assert sorted(rows[:100]) == sorted(rows[100:200]) == list(range(100))
    assert len(set(rows[200:].tolist())) == 50
    assert rows[:100].tolist() != rows[100:200].tolist()


@given(st.integers(1, 500), st.integers(1, 100), st.integers(1, 1000))
def test_steps_of_each_kind_of_length(n_rows: int, batch: int, amount: int) -> None:
    epochs = count_steps(Length(epochs=amount), batch, n_rows)
    steps = count_steps(Length(steps=amount), batch, n_rows)
    clips = count_steps(Length(clips=amount), batch, n_rows)
    for count in (epochs, steps, clips):
        assert count.batch == min(batch, n_rows)
        assert count.per_epoch == max(1, n_rows // count.batch)
        assert (count.epochs - 1) * count.per_epoch < count.total <= count.epochs * count.per_epoch
    assert epochs.epochs == amount
    assert steps.total == amount
    assert (clips.total - 1) * clips.batch < amount <= clips.total * clips.batch

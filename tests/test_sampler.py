"""Which rows an epoch draws, against the formula and against counting."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdlab.errors import DataError, SpecError
from birdlab.sed.draws import generator
from birdlab.sed.sampler import (
    draw_rows,
    draw_weighted,
    expected_draws,
    row_weights,
    row_weights_of,
)
from birdlab.sed.steps import count_steps
from birdlab.spec.base import Spec
from birdlab.spec.kinds import implements
from birdlab.spec.recipe import Length
from birdlab.spec.samplers import Clamped, InversePower, Plain

METADATA = Path(__file__).parents[2] / "shared" / "data" / "birdclef2023_train_metadata.csv"
SAMPLERS = [InversePower(), InversePower(power=1.3), Clamped(minimum=5, cap=40), Plain()]
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
    for spec in SAMPLERS:
        assert draw_rows(spec, ["a"], 3, generator("one")).tolist() == [0, 0, 0]
        assert expected_draws(spec, ["a"], 3).tolist() == [3.0]


@pytest.mark.parametrize("spec", SAMPLERS)
def test_without_rows_there_is_nothing_to_draw(spec: Spec) -> None:
    with pytest.raises(DataError, match="no training rows"):
        draw_rows(spec, [], 3, generator("none"))
    assert expected_draws(spec, [], 3).shape == (0,)


def test_plain_gives_every_row_once_before_any_twice() -> None:
    rows = draw_rows(Plain(), LABELS, 250, generator("plain"))
    assert sorted(rows[:100]) == sorted(rows[100:200]) == list(range(100))
    assert len(set(rows[200:].tolist())) == 50
    assert rows[:100].tolist() != rows[100:200].tolist()


@given(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=60),
    st.integers(1, 20),
    st.integers(0, 20) | st.none(),
)
def test_clamped_weights_follow_their_words(
    labels: list[str], minimum: int, more: int | None
) -> None:
    """Each class is drawn as if it had minimum to cap rows, its rows alike."""
    spec = Clamped(minimum=minimum, cap=None if more is None else minimum + more)
    weights = row_weights_of(spec, labels)
    for label in set(labels):
        mine = weights[[x == label for x in labels]]
        as_if = max(labels.count(label), minimum)
        assert mine.sum() == pytest.approx(as_if if more is None else min(as_if, minimum + more))
        assert len(set(mine.tolist())) == 1


def test_each_sampler_says_its_weights() -> None:
    numbers = np.array([3, 3, 3, 1])
    assert row_weights_of(Plain(), numbers).tolist() == [1.0] * 4
    assert row_weights_of(Clamped(minimum=2), numbers).tolist() == [1.0, 1.0, 1.0, 2.0]
    assert row_weights_of(Clamped(cap=1), numbers) == pytest.approx([1 / 3] * 3 + [1])
    assert row_weights_of(InversePower(power=0.5), numbers).tolist() == pytest.approx(
        [(3 / 4) ** -0.5] * 3 + [2.0]
    )


@pytest.mark.parametrize("spec", SAMPLERS)
def test_rows_come_as_often_as_expected(spec: Spec) -> None:
    """Means over many epochs of 100 draws from 100 rows, against the words of the plan."""
    n_epochs = 400
    counts = np.zeros(len(LABELS))
    for epoch in range(n_epochs):
        rows = draw_rows(spec, LABELS, 150, generator("expected", epoch))
        counts += np.bincount(rows, minlength=len(LABELS))
    expected = expected_draws(spec, LABELS, 150)
    assert expected.sum() == pytest.approx(150)
    assert (np.abs(counts / n_epochs - expected) < 4.5 * np.sqrt(expected / n_epochs)).all()


def test_draws_follow_the_weights_as_those_of_numpy_do() -> None:
    weights = np.array([0.0, 1.0, 5.0, 0.0, 2.0])
    ours = np.bincount(draw_weighted(weights, 20_000, generator("ours")), minlength=5)
    theirs = generator("theirs").choice(5, 20_000, p=weights / weights.sum())
    assert ours[0] == ours[3] == 0
    spread = np.sqrt(2 * 20_000 * 0.25)
    assert (np.abs(ours - np.bincount(theirs, minlength=5)) < 4.5 * spread).all()


def test_expected_draws_of_the_species_of_2023() -> None:
    """An epoch of N draws gives a species N * sqrt(n_c) / sum of sqrt(n) draws."""
    if not METADATA.is_file():
        pytest.skip("the metadata of 2023 lies beside the checkout, and is not there")
    labels = pd.read_csv(METADATA)["primary_label"].to_numpy()
    found = pd.Series(expected_draws(InversePower(), labels, len(labels))).groupby(labels).sum()
    sizes = pd.Series(labels).value_counts()
    roots = np.sqrt(sizes)
    expected = len(labels) * roots / roots.sum()
    assert len(found) == 264
    assert found.to_numpy() == pytest.approx(expected[found.index].to_numpy())
    singles = found[sizes[sizes == 1].index]
    assert (len(singles), found.min()) == (7, pytest.approx(singles.iloc[0]))
    assert found.max() / found.min() == pytest.approx(np.sqrt(500))


class _First(Spec):
    kind: Literal["first"] = "first"


class _Newest(Spec):
    kind: Literal["newest"] = "newest"


@implements(_First)
def _draw_first(_spec: Spec, _labels: Any, n_draws: int, _rng: Any) -> Any:
    return np.zeros(n_draws, np.int64)


@implements(_Newest, weights=lambda _spec, labels: np.arange(1.0, 1 + len(labels)))
def _draw_newest(_spec: Spec, labels: Any, n_draws: int, rng: Any) -> Any:
    return draw_weighted(np.arange(1.0, 1 + len(labels)), n_draws, rng)


def test_a_sampler_of_ones_own_says_its_weights_or_is_refused() -> None:
    assert expected_draws(_Newest(), ["a", "b", "b"], 12).tolist() == [2.0, 4.0, 6.0]
    assert draw_rows(_First(), LABELS, 2, generator("first")).tolist() == [0, 0]
    with pytest.raises(SpecError, match="'first' does not say its weights") as refused:
        expected_draws(_First(), LABELS, 2)
    assert "weights=function" in str(refused.value)


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


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 8), st.integers(1, 300))
def test_accumulated_batches_are_one_step(
    n_rows: int, batch: int, accumulate: int, amount: int
) -> None:
    for length in (Length(epochs=amount), Length(steps=amount), Length(clips=amount)):
        assert count_steps(length, batch, n_rows, accumulate) == count_steps(
            length, batch * accumulate, n_rows
        )


def test_steps_of_accumulated_batches_by_hand() -> None:
    steps = count_steps(Length(epochs=3), 16, 200, 4)
    assert (steps.total, steps.per_epoch, steps.batch, steps.epochs) == (9, 3, 64, 3)
    assert count_steps(Length(clips=640), 16, 200, 4).total == 10
    assert count_steps(Length(epochs=1), 16, 40, 4).batch == 40

"""Named draws: every number depends on its names and its place, and on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdlab.sed.draws import EpochDraws, generator, key_of, torch_seed

PLACES = np.arange(64)


def numbers(seed: int = 0, fold: int | None = 0, epoch: int = 0, name: str = "crop") -> list[float]:
    drawn: list[float] = EpochDraws(seed, fold, epoch).at(PLACES, name).uniform(1)[:, 0].tolist()
    return drawn


def test_equal_names_give_equal_numbers_on_every_machine() -> None:
    assert numbers() == numbers()
    assert key_of(0, None, 3, "crop") == 0x7368206AFCBF1BBC476D72697AB1088B
    golden = [0.3181116356929602, 0.7155174868168703]
    assert generator(0, None, 3, "crop").random(2).tolist() == golden


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"fold": 1}, {"fold": None}, {"epoch": 1}, {"name": "noise"}]
)
def test_another_seed_fold_epoch_or_name_gives_unrelated_numbers(other: dict[str, Any]) -> None:
    here, there = np.array(numbers()), np.array(numbers(**other))
    assert not np.isin(here, there).any()
    assert abs(np.corrcoef(here, there)[0, 1]) < 0.4


def test_a_place_has_its_numbers_whatever_the_batch() -> None:
    draws = EpochDraws(0, 0, 0)
    whole = draws.at(PLACES, "crop").uniform(3)
    for batch in (PLACES[:5], PLACES[40:44], np.array([63, 0, 7])):
        assert np.array_equal(draws.at(batch, "crop").uniform(3), whole[batch])
    assert len(np.unique(whole)) == whole.size, "no two places share a number"


def test_tags_of_one_transform_are_independent() -> None:
    draws = EpochDraws(0, 0, 0).at(PLACES, "mask")
    assert not np.isin(draws.uniform(1, tag="a"), draws.uniform(1, tag="b")).any()
    assert not np.isin(draws.uniform(1, tag="a"), draws.uniform(1)).any()


def test_a_probability_is_kept_and_0_and_1_are_exact() -> None:
    n = 20_000
    draws = EpochDraws(3, 0, 0).at(np.arange(n), "or_mixup")
    assert not draws.happens(0.0).any()
    assert draws.happens(1.0).all()
    share = draws.happens(0.3).mean()
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / n)
    assert (draws.happens(0.3) <= draws.happens(0.5)).all(), "a larger p only adds clips"


@given(st.lists(st.one_of(st.integers(), st.text(max_size=5), st.none()), min_size=1, max_size=4))
def test_keys_fit_their_generators(parts: list[object]) -> None:
    assert 0 <= key_of(*parts) < 2**128
    assert 0 <= torch_seed(*parts) < 2**63


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_neighbouring_parts_do_not_run_together(a: int, b: int) -> None:
    assert key_of(a, b) != key_of(f"{a}{b}")
    assert (key_of(a, b) == key_of(b, a)) == (a == b)

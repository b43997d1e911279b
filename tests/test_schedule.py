"""Learning rates, against the figures of 2023 and torch's own schedule."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch

from birdlab.sed.schedule import learning_rate
from birdlab.spec.recipe import Constant, Cosine


@pytest.mark.parametrize(("base", "golden"), [(1e-4, 9.055e-5), (1e-3, 9.046e-4)])
def test_golden_rates_of_2023_at_epoch_10_of_50(base: float, golden: float) -> None:
    spec = Cosine(min_lr=1e-6, per="epoch")
    for step in (0, 3, 6):
        rate = learning_rate(spec, base, 10 * 7 + step, 50 * 7, 7)
        assert rate == pytest.approx(golden, abs=5e-9 if base < 5e-4 else 5e-8)


def test_a_cosine_starts_at_the_rate_and_falls_towards_the_floor() -> None:
    spec = Cosine(min_lr=1e-5, per="step")
    rates = [learning_rate(spec, 1e-2, step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(1e-2)
    assert rates[50] == pytest.approx((1e-2 + 1e-5) / 2)
    assert all(a > b for a, b in itertools.pairwise(rates))
    assert 1e-5 < rates[-1] < 2e-5


def test_per_epoch_is_torchs_schedule_stepped_each_epoch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12, eta_min=1e-6)
    spec = Cosine(min_lr=1e-6)
    for epoch in range(12):
        ours = [learning_rate(spec, 1e-3, epoch * 5 + step, 60, 5) for step in range(5)]
        assert ours == pytest.approx([optimizer.param_groups[0]["lr"]] * 5, rel=1e-9)
        optimizer.step()
        with warnings.catch_warnings():
            theirs.step()


def test_a_last_epoch_that_is_cut_short_counts_whole() -> None:
    spec = Cosine(min_lr=0.0)
    rates = [learning_rate(spec, 1.0, step, 25, 10) for step in range(25)]
    assert len(set(rates)) == 3
    assert rates[24] == pytest.approx(0.25)


def test_constant_stays() -> None:
    assert learning_rate(Constant(), 0.3, 5, 10, 2) == 0.3

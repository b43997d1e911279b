"""Learning rates, against the figures of 2023 and torch's own schedule."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from birdlab.sed.schedule import learning_rate, warmup_steps
from birdlab.spec.optimizers import Constant, Cosine, OneCycle


def torch_rates(
    base: float, n: int, build: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]
) -> list[float]:
    """The rates of `n` steps of a schedule of torch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The epoch parameter in `scheduler.step")
        schedule = build(optimizer)
        rates = []
        for step in range(n):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if step < n - 1:
                schedule.step()
    return rates


def our_rates(spec: Any, base: float, n: int, per_epoch: int) -> list[float]:
    return [learning_rate(spec, base, step, n, per_epoch) for step in range(n)]


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
    theirs = torch_rates(1e-3, 12, lambda o: lr_scheduler.CosineAnnealingLR(o, 12, eta_min=1e-6))
    ours = our_rates(Cosine(min_lr=1e-6), 1e-3, 60, 5)
    assert ours == pytest.approx([rate for rate in theirs for _ in range(5)], rel=1e-9)


def test_per_step_is_torchs_schedule_stepped_each_step() -> None:
    theirs = torch_rates(1e-3, 60, lambda o: lr_scheduler.CosineAnnealingLR(o, 60, eta_min=1e-6))
    assert our_rates(Cosine(per="step"), 1e-3, 60, 5) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 11, 73])
@pytest.mark.parametrize("rise", [0.1, 0.3, 0.9])
def test_one_cycle_is_torchs(n: int, rise: float) -> None:
    spec = OneCycle(rise=rise, start_div=10.0, end_div=1e3)
    theirs = torch_rates(
        0.3,
        n,
        lambda o: lr_scheduler.OneCycleLR(
            o,
            0.3,
            total_steps=n,
            pct_start=rise,
            cycle_momentum=False,
            div_factor=10.0,
            final_div_factor=100.0,
        ),
    )
    assert our_rates(spec, 0.3, n, 4) == pytest.approx(theirs, rel=1e-9)


@given(
    st.integers(4, 400),
    st.floats(0.05, 0.95),
    st.floats(1.5, 1e3),
    st.floats(1.5, 1e6),
)
def test_one_cycle_rises_and_falls(n: int, rise: float, start: float, end: float) -> None:
    rates = our_rates(OneCycle(rise=rise, start_div=start, end_div=end), 1.0, n, 7)
    top = rates.index(max(rates))
    assert abs(top - (rise * n - 1)) <= 1
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(rates[: top + 1]))
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(rates[top:]))
    assert rates[-1] == pytest.approx(1 / end)
    if rise * n > 1:
        assert rates[0] == pytest.approx(1 / start)
    assert max(rates) <= 1


def test_one_cycle_of_a_table_that_reaches_its_top_at_once() -> None:
    assert learning_rate(OneCycle(rise=0.25), 1.0, 0, 4, 2) == 1.0


@pytest.mark.parametrize("per", ["step", "epoch"])
def test_warm_up_and_cosine_are_torchs_in_sequence(per: Any) -> None:
    """Six steps up a line, then the cosine over the 60 steps or 12 epochs that are left."""

    def build(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        up = lr_scheduler.LinearLR(optimizer, start_factor=1 / 7, total_iters=6)
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, 60, eta_min=1e-6)
        return lr_scheduler.SequentialLR(optimizer, [up, cosine], milestones=[6])

    theirs = torch_rates(1e-3, 66, build)
    if per == "epoch":
        theirs = theirs[:6] + [theirs[6 + step // 5 * 5] for step in range(60)]
    spec = Cosine(min_lr=1e-6, per=per, warmup_epochs=1.2)
    assert our_rates(spec, 1e-3, 66, 5) == pytest.approx(theirs, rel=1e-9)


@given(st.integers(1, 200), st.integers(1, 50), st.floats(0.01, 20))
def test_warm_up_is_a_line_from_0_to_the_rate(n: int, per_epoch: int, epochs: float) -> None:
    spec = Constant(warmup_epochs=epochs)
    up = warmup_steps(spec, per_epoch)
    assert up >= 1
    assert abs(up - epochs * per_epoch) <= 1
    rates = [0.0, *our_rates(spec, 0.5, n, per_epoch)]  # 0 is where the line leaves
    rises = [b - a for a, b in itertools.pairwise(rates)]
    assert rises[: up + 1] == pytest.approx([0.5 / (up + 1)] * min(up + 1, n))
    assert rates[up + 1 :] == [0.5] * max(0, n - up)


@given(st.integers(1, 300), st.integers(1, 40), st.sampled_from(["step", "epoch"]))
def test_without_warm_up_nothing_is_held_back(n: int, per_epoch: int, per: Any) -> None:
    assert warmup_steps(Cosine(), per_epoch) == warmup_steps(OneCycle(), per_epoch) == 0
    rates = our_rates(Cosine(per=per, min_lr=0.01), 1.0, n, per_epoch)
    assert rates[0] == 1.0
    assert all(0.01 <= rate <= 1.0 for rate in rates)
    assert all(a >= b for a, b in itertools.pairwise(rates))


def test_a_last_epoch_that_is_cut_short_counts_whole() -> None:
    spec = Cosine(min_lr=0.0)
    rates = [learning_rate(spec, 1.0, step, 25, 10) for step in range(25)]
    assert len(set(rates)) == 3
    assert rates[24] == pytest.approx(0.25)


def test_constant_stays() -> None:
    assert learning_rate(Constant(), 0.3, 5, 10, 2) == 0.3

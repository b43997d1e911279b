"""Losses: golden values, plain formulas, gradients that stay finite."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from birdlab.sed.losses import bce_loss, focal_loss
from birdlab.spec.kinds import function_of
from birdlab.spec.recipe import Bce, Focal


@pytest.mark.parametrize(
    ("logit", "target", "golden"), [(0.0, 1.0, 0.0433), (2.0, 1.0, 0.0005), (-2.0, 0.0, 0.0014)]
)
def test_focal_goldens(logit: float, target: float, golden: float) -> None:
    loss = focal_loss(Focal(), torch.tensor([[logit]]), torch.tensor([[target]]))
    assert round(loss.item(), 4) == golden


@given(
    logit=st.floats(-15, 15), positive=st.booleans(), alpha=st.floats(0, 1), gamma=st.floats(0, 5)
)
def test_focal_equals_its_formula(logit: float, positive: bool, alpha: float, gamma: float) -> None:
    p = torch.tensor(logit, dtype=torch.float64).sigmoid()
    p_t, alpha_t = (p, alpha) if positive else (1 - p, 1 - alpha)
    expected = -alpha_t * (1 - p_t) ** gamma * p_t.log()
    spec = Focal(alpha=alpha, gamma=gamma)
    loss = focal_loss(spec, torch.tensor([[logit]]), torch.tensor([[float(positive)]]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)


def test_mean_over_batch_and_classes() -> None:
    logits, targets = torch.randn(4, 7), torch.randint(0, 2, (4, 7)).float()
    for spec, loss in ((Focal(), focal_loss), (Bce(), bce_loss)):
        cells = [
            loss(spec, logits[i : i + 1, j : j + 1], targets[i : i + 1, j : j + 1])
            for i in range(4)
            for j in range(7)
        ]
        assert loss(spec, logits, targets).item() == pytest.approx(
            torch.stack(cells).mean().item(), rel=1e-5
        )


def test_focal_without_focus_is_half_of_bce() -> None:
    logits, targets = torch.randn(4, 7), torch.rand(4, 7)
    focal = focal_loss(Focal(gamma=0, alpha=0.5), logits, targets)
    assert focal.item() == pytest.approx(0.5 * bce_loss(Bce(), logits, targets).item(), rel=1e-5)


@pytest.mark.parametrize("spec", [Focal(), Focal(gamma=0.5), Bce()])
def test_extreme_logits_give_finite_gradients(spec: Focal | Bce) -> None:
    logits = torch.tensor([[-200.0, -30.0, 30.0, 200.0]], requires_grad=True)
    loss = function_of(spec)(spec, logits, torch.tensor([[1.0, 0.0, 1.0, 0.0]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_half_precision_is_computed_in_float32() -> None:
    loss = focal_loss(Focal(), torch.zeros(2, 3, dtype=torch.bfloat16), torch.zeros(2, 3))
    assert loss.dtype == torch.float32

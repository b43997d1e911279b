"""The front-end against torchaudio, clip by clip, in both of its forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

from birdlab.data.audio import decode
from birdlab.errors import SpecError
from birdlab.sed.dft import split_n_fft
from birdlab.sed.frontend import LogMel, MultiMel
from birdlab.spec.kinds import function_of
from birdlab.spec.model import LogMelSpec, MultiMelSpec

REAL = Path(__file__).parents[2] / "shared" / "data" / "realbirds"
SAMPLES = 160_000


def synthetic_clips() -> Tensor:
    """Noise, a quiet noise, a tone, a click, a chirp after silence, full-scale square: [6, S]."""
    generator = torch.Generator().manual_seed(3)
    t = torch.arange(SAMPLES) / 32_000
    noise = 0.3 * torch.randn(SAMPLES, generator=generator)
    click = torch.zeros(SAMPLES)
    click[70_001] = 1.0
    chirp = torch.sin(2 * torch.pi * (1500 * t + 500 * t**2)) * (t > 2.5)
    square = torch.sign(torch.sin(2 * torch.pi * 440.3 * t))
    tone = 0.5 * torch.sin(2 * torch.pi * 3000 * t)
    return torch.stack([noise, 1e-4 * noise, tone, click, chirp, square])


def torchaudio_decibels(wave: Tensor, spec: LogMelSpec) -> Tensor:
    """torchaudio's answer for one clip [S]: [n_mels, T]."""
    power = torchaudio.transforms.MelSpectrogram(
        sample_rate=spec.sample_rate_hz, n_fft=spec.n_fft, hop_length=spec.hop,
        f_min=spec.f_min_hz, f_max=spec.f_max_hz, n_mels=spec.n_mels, normalized="window",
        center=True, pad_mode="reflect", power=2.0, mel_scale="htk", norm=None,
    )(wave[None])  # fmt: skip
    return torchaudio.transforms.AmplitudeToDB("power", top_db=spec.top_db)(power)[0]


def assert_equals_torchaudio(waves: Tensor, spec: LogMelSpec) -> None:
    model = LogMel(spec)
    for wave, db, image in zip(waves, model.decibels(waves), model(waves), strict=True):
        expected = torchaudio_decibels(wave, spec)
        assert (db - expected).abs().max() < 5e-3
        z = (expected - expected.mean()) / (expected.std() + 1e-6)
        scaled = (z - z.min()) / (z.max() - z.min())
        assert (image[0] - scaled).abs().max() < 1e-4


@pytest.mark.parametrize(
    "spec",
    [LogMelSpec(), LogMelSpec(n_fft=1024, hop=320, n_mels=64, f_min_hz=50, f_max_hz=14_000)],
)
def test_equals_torchaudio_on_synthetic_clips(spec: LogMelSpec) -> None:
    assert_equals_torchaudio(synthetic_clips(), spec)


@pytest.mark.realbirds
def test_equals_torchaudio_on_real_clips() -> None:
    files = sorted(REAL.glob("soundscapes/*.ogg"))[:6:2]
    if not files:
        pytest.skip("the real recordings are not beside the checkout")
    waves = [torch.from_numpy(decode(file).to_float()[:SAMPLES]) for file in files]
    assert_equals_torchaudio(torch.stack(waves), LogMelSpec())


def test_shape_and_range() -> None:
    images = LogMel(LogMelSpec())(synthetic_clips())
    assert images.shape == (6, 1, 128, 313)
    assert images.dtype == torch.float32
    assert torch.equal(images.amin((1, 2, 3)), torch.zeros(6))
    assert torch.allclose(images.amax((1, 2, 3)), torch.ones(6))


@pytest.mark.parametrize("exportable", [False, True])
def test_silence_becomes_zeros_and_a_quiet_clip_does_not(exportable: bool) -> None:
    model = LogMel(LogMelSpec(), exportable=exportable)
    quiet = 1e-3 * synthetic_clips()[:1]
    image = model(torch.cat([torch.zeros(1, SAMPLES), quiet]))
    assert torch.equal(image[0], torch.zeros_like(image[0]))
    assert image[1].max() > 0.99


@pytest.mark.parametrize("exportable", [False, True])
def test_a_clip_does_not_depend_on_its_batch(exportable: bool) -> None:
    model, waves = LogMel(LogMelSpec(), exportable=exportable), synthetic_clips()
    batch = model(waves)
    for i in range(len(waves)):
        assert (model(waves[i : i + 1])[0] - batch[i]).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("n_fft", "hop"), [(2048, 512), (1024, 320), (800, 200), (512, 512), (400, 129), (625, 50)]
)
def test_export_form_agrees_in_decibels(n_fft: int, hop: int) -> None:
    spec = LogMelSpec(n_fft=n_fft, hop=hop, n_mels=32)
    model = LogMel(spec)
    waves = synthetic_clips()[:, :48_123]
    difference = model.decibels(waves) - model.export_form().decibels(waves)
    assert difference.abs().max() < 0.01


@pytest.mark.realbirds
def test_export_form_agrees_on_real_clips() -> None:
    """Float32 alone costs .007 dB at 80 dB under a clip's maximum; the export form .02 dB."""
    files = sorted(REAL.glob("soundscapes/*.ogg"))[:12]
    if not files:
        pytest.skip("the real recordings are not beside the checkout")
    waves = torch.stack([torch.from_numpy(decode(f).to_float()[:SAMPLES]) for f in files])
    model = LogMel(LogMelSpec())
    db = model.decibels(waves)
    difference = (db - model.export_form().decibels(waves)).abs()
    assert difference.max() < 0.03
    assert difference[db > db.amax((1, 2), keepdim=True) - 65].max() < 0.01


def test_split_divides_both_and_is_cheapest_where_known() -> None:
    assert split_n_fft(2048, 512) == (64, 32)
    for n_fft, hop in ((2048, 500), (1000, 300), (509, 100)):
        p, q = split_n_fft(n_fft, hop)
        assert p * q == n_fft
        assert hop % q == 0


def test_several_mels_are_the_channels_of_one_image() -> None:
    channels = (
        LogMelSpec(n_fft=1024, f_max_hz=9000.0),
        LogMelSpec(),
        LogMelSpec(n_fft=4096, f_min_hz=2000.0, top_db=60.0),
    )
    spec = MultiMelSpec(channels=channels)
    model, waves = function_of(spec)(spec), synthetic_clips()
    assert isinstance(model, MultiMel)
    image = model(waves)
    assert image.shape == (6, 3, 128, 313)
    for i, channel in enumerate(channels):
        assert torch.equal(image[:, i : i + 1], LogMel(channel)(waves))
    assert (image - model.export_form()(waves)).abs().max() < 5e-4
    assert model.export_form().state_dict() == {}


@pytest.mark.realbirds
def test_a_real_clip_does_not_depend_on_its_batch() -> None:
    """Clips of unlike loudness, where a limit over the batch would cut the quiet ones."""
    files = sorted(REAL.glob("soundscapes/*.ogg"))[:8]
    if not files:
        pytest.skip("the real recordings are not beside the checkout")
    waves = torch.stack([torch.from_numpy(decode(f).to_float()[:SAMPLES]) for f in files])
    waves *= torch.logspace(-3, 0, len(files))[:, None]
    model = LogMel(LogMelSpec())
    decibels, batch = model.decibels(waves), model(waves)
    assert decibels.amax((1, 2)).max() - decibels.amax((1, 2)).min() > 30
    for picked in ([0], [3], [7], [0, 7], [7, 0, 3, 3]):
        assert (model(waves[picked]) - batch[picked]).abs().max() <= 1e-5


def test_autocast_changes_nothing() -> None:
    model, waves = LogMel(LogMelSpec()), synthetic_clips()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = model(waves)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, model(waves))


def test_a_clip_too_short_to_reflect_is_refused() -> None:
    with pytest.raises(SpecError, match="too short"):
        LogMel(LogMelSpec())(torch.zeros(1, 1024))


def test_spec_builds_it_and_it_has_no_weights() -> None:
    spec = LogMelSpec(n_mels=40)
    model = function_of(spec)(spec)
    assert isinstance(model, LogMel)
    assert model.state_dict() == {}
    assert np.prod(model(torch.randn(2, 32_000)).shape) == 2 * 40 * 63

"""Decoding: what comes out of good files, and what is said about bad ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from birdlab.data import audio, audiofile
from birdlab.data.audio import decode, to_float
from birdlab.data.audiofile import read_duration_s
from birdlab.errors import AudioError

REAL = Path(__file__).parents[2] / "shared" / "data" / "realbirds"
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_24"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def noise(n: int, level: float = 0.1, channels: int = 1) -> np.ndarray:
    wave = np.random.default_rng(n).standard_normal((n, channels)) * level
    return np.clip(wave, -1, 1).astype(np.float32)


def write(path: Path, wave: np.ndarray, rate_hz: int, kind: str = "wav", **kw: str) -> Path:
    container, subtype = FORMATS[kind]
    soundfile.write(path, wave, rate_hz, format=container, subtype=kw.get("subtype", subtype))
    return path


def reference(path: Path) -> np.ndarray:
    wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono: np.ndarray = wave.mean(axis=1)
    if rate_hz != 32_000:
        mono = soxr.resample(mono, rate_hz, 32_000, quality="HQ")
    return mono


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("rate_hz", "channels"), [(48_000, 2), (24_000, 1)])
def test_a_decoded_file_is_the_mono_resampled_wave_to_half_a_step(
    tmp_path: Path, kind: str, rate_hz: int, channels: int
) -> None:
    path = write(tmp_path / f"a b ü.{kind}", noise(rate_hz, channels=channels), rate_hz, kind)
    wave = decode(path)
    wanted = reference(path)
    assert wave.samples.dtype == np.int16
    assert wave.n_samples == len(wanted)
    assert wave.duration_s == len(wanted) / 32_000
    assert np.abs(wave.samples).max() == 32_767
    assert wave.scale == pytest.approx(np.abs(wanted).max(), rel=1e-6)
    assert np.abs(wave.to_float() - wanted).max() <= 0.51 * wave.scale / 32_767
    assert read_duration_s(path) == pytest.approx(wave.duration_s, abs=1e-3)


@pytest.mark.parametrize("level", [1e-4, 0.02, 3.0])
def test_each_recording_is_scaled_to_its_own_peak(tmp_path: Path, level: float) -> None:
    wave = np.sin(np.arange(32_000) / 7).astype(np.float32) * np.float32(level)
    path = write(tmp_path / "a.wav", wave, 32_000, subtype="FLOAT")
    decoded = decode(path)
    assert decoded.scale == np.float32(np.abs(wave).max())
    np.testing.assert_allclose(decoded.to_float(), wave, atol=0.51 * level / 32_767)


def test_silence_has_scale_zero(tmp_path: Path) -> None:
    decoded = decode(write(tmp_path / "a.wav", np.zeros(1000, np.float32), 32_000))
    assert decoded.scale == 0.0
    assert decoded.n_samples == 1000
    assert not decoded.to_float().any()


def test_other_rates_and_widths_are_decoded(tmp_path: Path) -> None:
    for name, subtype, rate_hz, channels in (
        ("u8", "PCM_U8", 32_000, 1),
        ("p24", "PCM_24", 96_000, 6),
        ("f64", "DOUBLE", 8_000, 1),
    ):
        path = write(
            tmp_path / f"{name}.wav", noise(rate_hz, 0.2, channels), rate_hz, subtype=subtype
        )
        np.testing.assert_allclose(decode(path).to_float(), reference(path), atol=3e-5)
    assert decode(path, 16_000).n_samples == 16_000


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("block_frames", [97, 1000, 10_000])
def test_numbers_do_not_depend_on_blocks_or_on_a_second_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, block_frames: int
) -> None:
    path = write(tmp_path / f"a.{kind}", noise(9_000, channels=2), 24_000, kind)
    wanted = decode(path)
    monkeypatch.setattr(audiofile, "_BLOCK_FRAMES", block_frames)
    for held in (1 << 24, 100):
        monkeypatch.setattr(audio, "_HELD_SAMPLES", held)
        got = decode(path)
        assert got.scale == wanted.scale
        np.testing.assert_array_equal(got.samples, wanted.samples)


def test_to_float_is_the_documented_formula() -> None:
    samples = np.array([-32_767, 0, 32_767], np.int16)
    np.testing.assert_array_equal(to_float(samples, 0.5), np.array([-0.5, 0, 0.5], np.float32))


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.2, 0.7, 0.95])
def test_a_cut_file_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    path = cut(write(tmp_path / f"a.{kind}", noise(96_000), 48_000, kind), share)
    with pytest.raises(AudioError) as caught:
        decode(path)
    assert caught.value.where == str(path)


def state_later_end(path: Path, n_frames: int) -> Path:
    """Let the last page of an Ogg file state an end that lies `n_frames` later."""
    content = bytearray(path.read_bytes())
    page = content.rfind(b"OggS")
    end = int.from_bytes(content[page + 6 : page + 14], "little") + n_frames
    content[page + 6 : page + 14] = end.to_bytes(8, "little")
    content[page + 22 : page + 26] = bytes(4)
    crc = 0
    for byte in content[page:]:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ (0x104C11DB7 if crc & 0x80000000 else 0)
    content[page + 22 : page + 26] = crc.to_bytes(4, "little")
    path.write_bytes(content)
    return path


def test_an_ogg_may_state_an_end_within_its_last_block(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ogg", noise(96_000), 32_000, "ogg")
    whole = decode(path)
    assert read_duration_s(state_later_end(path, 448)) == 96_448 / 32_000
    late = decode(path)
    assert late.n_samples < 96_448, "the decoder has no more than the last block"
    np.testing.assert_array_equal(late.samples[:96_000], whole.samples)
    with pytest.raises(AudioError, match="cut off"):
        decode(state_later_end(path, 32_000))


def test_a_wav_of_a_pipe_states_no_length_and_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(1000), 32_000)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert decode(path).n_samples == 1000


def bad_files(folder: Path) -> dict[str, Path]:
    zero, text, silent = folder / "zero.ogg", folder / "text.ogg", folder / "none.wav"
    zero.touch()
    text.write_text("no audio at all\n" * 100)
    write(silent, np.zeros(0, np.float32), 32_000)
    (folder / "folder.ogg").mkdir()
    wave = noise(1000)
    wave[500] = np.nan
    nan = write(folder / "nan.wav", wave, 32_000, subtype="FLOAT")
    wave[500] = np.inf
    inf = write(folder / "inf.wav", wave, 44_100, subtype="FLOAT")
    link = folder / "link.ogg"
    link.symlink_to(folder / "nowhere.ogg")
    return {
        "no such file": folder / "absent.ogg",
        "no such file ": link,
        "zero bytes": zero,
        "not audio": text,
        "folder, not a recording": folder / "folder.ogg",
        "NaN or infinity": nan,
        "NaN or infinity ": inf,
        "no frames": silent,
        "shorter than one sample": write(folder / "one.wav", noise(1), 192_000),
    }


def test_each_bad_file_is_refused_by_name_with_its_reason(tmp_path: Path) -> None:
    for reason, path in bad_files(tmp_path).items():
        with pytest.raises(AudioError) as caught:
            decode(path)
        assert reason.strip() in caught.value.what
        assert caught.value.where == str(path)
        assert caught.value.fix


@pytest.mark.parametrize("name", ["absent.ogg", "zero.ogg", "text.ogg", "folder.ogg"])
def test_a_duration_needs_a_header(tmp_path: Path, name: str) -> None:
    bad_files(tmp_path)
    with pytest.raises(AudioError):
        read_duration_s(tmp_path / name)


def test_a_long_file_takes_little_more_memory_than_its_samples(tmp_path: Path) -> None:
    path, minutes = tmp_path / "long.wav", 20
    with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_U8") as file:
        for minute in range(minutes):
            file.write(noise(8_000 * 60 + minute)[: 8_000 * 60])
    program = (
        "import re, sys; from pathlib import Path; from birdlab.data.audio import decode;"
        "told = Path('/proc/self/status').read_text;"  # getrusage counts who started it, too
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', told())[1]) * 1024;"
        "before = peak(); wave = decode(Path(sys.argv[1]));"
        "print(wave.n_samples, peak() - before)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    n_samples, grown = map(int, run.stdout.split())
    assert n_samples == minutes * 60 * 32_000
    assert grown < 2 * n_samples + 100e6


@pytest.mark.realbirds
@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not beside the checkout")
def test_files_as_found_in_the_wild() -> None:
    paths = sorted((REAL / "formats").iterdir())
    assert len(paths) == 24
    for path in paths:
        wave = decode(path)
        assert np.abs(wave.to_float() - reference(path)).max() <= 0.501 * wave.scale / 32_767 + 1e-7
        assert wave.duration_s == pytest.approx(read_duration_s(path), abs=1e-3)

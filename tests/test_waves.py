"""Waveforms without a store: crops decoded from the files, equal to stored ones to one step."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import MakeLab

from birdlab.cellfiles import outputs_folder
from birdlab.data import building
from birdlab.data.audio import decode, measure
from birdlab.data.crops import decode_crop
from birdlab.data.hashes import hash_files
from birdlab.data.quarantine import load_listed
from birdlab.data.store import WaveStore
from birdlab.data.waves import open_waves
from birdlab.errors import AudioError, DataError, LabError
from birdlab.evaluate.outputs import load_outputs
from birdlab.lab import open_lab
from birdlab.plan import plan_experiment
from birdlab.run import run_experiment
from birdlab.spec.experiment import load_spec

REAL = Path(__file__).parents[2] / "shared" / "data" / "realbirds"
KINDS = {
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "adpcm.wav": ("WAV", "MS_ADPCM"),
    "flac": ("FLAC", "PCM_24"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
CASES = [
    *[("wav", rate_hz, 1) for rate_hz in (8_000, 22_050, 32_000, 44_100, 48_000, 96_000)],
    ("wav", 44_101, 2),
    ("float.wav", 44_100, 2),
    ("adpcm.wav", 22_050, 1),
    ("flac", 44_100, 1),
    ("flac", 48_000, 2),
    ("ogg", 32_000, 1),
    ("ogg", 44_100, 2),
    ("opus", 48_000, 1),
    ("mp3", 32_000, 1),
    ("mp3", 44_100, 2),
]


def write(path: Path, seconds: float, rate_hz: int, channels: int = 1, kind: str = "wav") -> Path:
    rng = np.random.default_rng(rate_hz)
    n = int(seconds * rate_hz)
    level = 0.02 + 0.3 * np.sin(np.arange(n) / n * 9)[:, None] ** 2
    wave = np.clip(rng.standard_normal((n, channels)) * level, -1, 1)
    container, subtype = KINDS[kind]
    soundfile.write(path, wave, rate_hz, format=container, subtype=subtype)
    return path


@pytest.mark.parametrize(("kind", "rate_hz", "channels"), CASES)
def test_a_crop_is_that_of_the_store_to_one_step(
    tmp_path: Path, kind: str, rate_hz: int, channels: int
) -> None:
    path = write(tmp_path / f"a.{kind}", 7.3, rate_hz, channels, kind)
    stored = decode(path)
    n_samples, scale = measure(path)
    assert (n_samples, scale) == (stored.n_samples, stored.scale)
    rng = np.random.default_rng(0)
    middles = [(int(s), 40_000) for s in rng.integers(1, n_samples - 40_000, 12)]
    edges = [(0, 1), (0, 32_000), (1, 5), (n_samples - 1, 1), (n_samples - 20_000, 20_000)]
    for start, n in [*middles, *edges, (0, n_samples), (9, 0), (n_samples, 0)]:
        crop = decode_crop(path, 32_000, start, n, n_samples=n_samples, scale=scale)
        assert crop.dtype == np.int16
        wanted = stored.samples[start : start + n]
        assert crop.shape == wanted.shape
        worst = np.abs(crop.astype(np.int32) - wanted).max(initial=0)
        assert worst <= (1 if rate_hz != 32_000 else 0), f"{worst} at {start}"
    whole = decode_crop(path, 32_000, 0, n_samples, n_samples=n_samples, scale=scale)
    np.testing.assert_array_equal(whole, stored.samples)


def test_a_file_that_ends_before_the_crop_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 1, 44_100)
    with pytest.raises(AudioError, match="ends before the crop"):
        decode_crop(path, 32_000, 30_000, 9_000, n_samples=90_000, scale=1.0)


Mixed = tuple[WaveStore, WaveStore, list[tuple[str, Path]]]


@pytest.fixture
def mixed(tmp_path: Path) -> Mixed:
    """The same recordings in a store and decoded on demand, in one folder."""
    folder = tmp_path / "audio ü"
    folder.mkdir()
    paths = [
        write(folder / f"{i}.{kind}", 1.5, rate_hz, channels, kind)
        for i, (kind, rate_hz, channels) in enumerate(CASES)
    ]
    stored = WaveStore(tmp_path / "store")
    keys = [stored.key(h or "") for h in hash_files(paths, tmp_path / "hashes.db")]
    items = list(zip(keys, paths, strict=True))
    decoded = WaveStore(tmp_path / "store", waveforms="decode")
    assert decoded.missing(keys) == keys
    assert stored.build(items) == [] == decoded.build(items, jobs=2)
    return stored, decoded, items


def test_both_ways_answer_alike(mixed: Mixed) -> None:
    stored, decoded, items = mixed
    keys = [key for key, _ in items]
    assert decoded.missing([*keys, "none"]) == ["none"]
    for key, row in zip(keys, decoded.locate(keys).tolist(), strict=True):
        assert decoded.key("a") == stored.key("a")
        assert decoded.n_samples(key) == decoded.length_of(row) == stored.n_samples(key)
        assert decoded.scale(key) == decoded.scale_of(row) == stored.scale(key)
        np.testing.assert_array_equal(decoded.read_all(key), stored.read_all(key))
        got, wanted = (w.read_int16(key, 9_000, 20_000) for w in (decoded, stored))
        assert np.abs(got.astype(np.int32) - wanted).max() <= 1
        np.testing.assert_array_equal(decoded.read_row(row, 9_000, 20_000), got)
        step = stored.scale(key) / 32_767
        difference = decoded.read(key, 9_000, 20_000) - stored.read(key, 9_000, 20_000)
        assert np.abs(difference).max() <= 1.01 * step
        with pytest.raises(DataError, match="leaves its recording"):
            decoded.read(key, 1, stored.n_samples(key))
    reader = pickle.loads(pickle.dumps(decoded))  # noqa: S301
    np.testing.assert_array_equal(reader.read(keys[0], 5, 99), decoded.read(keys[0], 5, 99))


def test_nothing_but_an_index_is_kept(mixed: Mixed) -> None:
    _, decoded, items = mixed
    kept = list((decoded.root / "decode").iterdir())
    assert [path.suffix for path in kept] == [".npy"]
    assert kept[0].stat().st_size < 400 * len(items)


def test_a_moved_or_changed_file_is_an_error_and_a_build_takes_the_new_place(
    mixed: Mixed, tmp_path: Path
) -> None:
    _, decoded, items = mixed
    key, path = items[2]
    row, wanted = int(decoded.locate([key])[0]), decoded.read(key, 3, 500)
    os.utime(path, (1, 1))  # touched, not changed
    np.testing.assert_array_equal(decoded.read(key, 3, 500), wanted)
    moved = tmp_path / "elsewhere.wav"
    shutil.move(path, moved)
    with pytest.raises(DataError, match="has moved") as caught:
        decoded.read_row(row, 3, 500)
    assert str(path) in str(caught.value.where)
    assert caught.value.fix
    assert decoded.missing([k for k, _ in items]) == [key]
    assert decoded.build([*items[:2], (key, moved)]) == []
    np.testing.assert_array_equal(decoded.read(key, 3, 500), wanted)
    write(path, 2, 44_100)
    with pytest.raises(DataError, match="was changed"):
        decoded.read_row(row, 3, 500)


def test_an_interrupted_index_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write(tmp_path / f"{i}.wav", 0.2 + i / 100, 8_000) for i in range(9)]
    waves = WaveStore(tmp_path / "store", waveforms="decode")
    items = [(f"{i:032x}", path) for i, path in enumerate(paths)]

    def stop(done: int, _: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        waves.build(items, progress=stop)
    again = WaveStore(tmp_path / "store", waveforms="decode")
    assert len(again.missing(key for key, _ in items)) == 4
    steps: list[int] = []
    monkeypatch.setattr(building, "_SPARE_BYTES", 1 << 60)  # an index needs no room to speak of
    assert again.build(items, progress=lambda done, total: steps.append(total)) == []
    assert steps == [4] * 4
    assert again.n_samples(items[8][0]) == decode(paths[8]).n_samples
    part = next((tmp_path / "store" / "decode").glob("*.npy"))
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(LabError, match="damaged"):
        WaveStore(tmp_path / "store", waveforms="decode").missing([])


def test_a_bad_file_is_listed_once_for_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    path.write_text("no audio")
    for waveforms in ("decode", "store"):
        waves = WaveStore(tmp_path / "store", waveforms=waveforms)  # type: ignore[arg-type]
        steps: list[int] = []
        bad = waves.build([("a" * 32, path)], progress=lambda d, t, s=steps: s.append(t))  # type: ignore[misc]
        assert len(bad) == 1
        assert "not audio" in bad[0].reason
        assert len(steps) == (1 if waveforms == "decode" else 0)
    assert list(load_listed(tmp_path / "store")) == ["a" * 32]


def test_the_lab_file_chooses(tmp_path: Path) -> None:
    for text, waveforms in (("", "store"), ('waveforms = "decode"\n', "decode")):
        (tmp_path / "birdlab.toml").write_text(text)
        waves = open_waves(open_lab(tmp_path), 16_000)
        assert (waves.waveforms, waves.sample_rate_hz) == (waveforms, 16_000)
        assert waves.root == open_lab(tmp_path).waves


@pytest.mark.realbirds
@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not beside the checkout")
def test_crops_of_files_as_found_in_the_wild() -> None:
    rng = np.random.default_rng(1)
    paths = sorted((REAL / "formats").iterdir()) + sorted(REAL.glob("train_audio/*/*.ogg"))[:8]
    for path in paths:
        stored = decode(path)
        length, scale = stored.n_samples, stored.scale
        for start in [length - 400, *rng.integers(0, length, 3).tolist()]:
            n = min(int(rng.integers(1, 160_000)), length - start)
            crop = decode_crop(path, 32_000, start, n, n_samples=length, scale=scale)
            difference = crop.astype(np.int32) - stored.samples[start : start + n]
            assert np.abs(difference).max() <= 1, path.name


def test_a_run_without_a_store_is_that_with_one(make_lab: MakeLab) -> None:
    stored, lab = make_lab(trained=True), make_lab(decoded=False)
    (lab.root / "birdlab.local.toml").write_text('waveforms = "decode"\n')
    lab = open_lab(lab.root)
    spec = load_spec(lab.root / "tiny.yaml", ["cells.folds=[0]"])
    assert run_experiment(spec, lab=lab).trained == 1
    assert not list(lab.waves.glob("*.i16"))
    plan = plan_experiment(spec, lab)
    cell = plan.final_cells[0]
    a, b = (load_outputs(outputs_folder(one, cell)).windows for one in (stored, lab))
    assert a.recordings == b.recordings
    np.testing.assert_array_equal(a.clip_probs, b.clip_probs)  # no file is resampled: no step
    weights = [one.cells / cell.cell_id / "weights.safetensors" for one in (stored, lab)]
    assert weights[0].read_bytes() == weights[1].read_bytes()

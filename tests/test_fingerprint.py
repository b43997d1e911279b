"""Fingerprints and near-duplicates: copies are found, other recordings are not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from birdlab.data.audio import decode
from birdlab.data.demo.songs import FAMILIES, draw_grammar, draw_voice, render_song
from birdlab.data.duplicates import compare, near_pairs
from birdlab.data.fingerprint import SPAN_S, STEP_S, Fingerprint, fingerprint
from birdlab.errors import DataError, LabError

RATE_HZ = 32_000
REALBIRDS = Path(__file__).parents[2] / "shared" / "data" / "realbirds"
BLOCK = 8_192
ONE_OBSERVATION = frozenset(
    {
        "inat_nz__North_Island_Brown_Kiwi__NI_Brown_Kiwi_69494291_linds_nz_altered2",
        "inat_nz__North_Island_Brown_Kiwi__"
        "North_Island_Brown_Kiwi_male_ob69494291_linds_nz_cc_by_nc_al",
    }
)

Float32 = npt.NDArray[np.float32]


def sing(seed: int, length_s: float) -> Float32:
    """A generated bird that sings in a little noise, [samples] float32 with a peak of 0.5."""
    rng = np.random.default_rng(seed)
    grammar = draw_grammar(rng, list(FAMILIES)[seed % len(FAMILIES)])
    voice = draw_voice(rng, grammar, 1.0)
    wave = 0.05 * rng.standard_normal(round(length_s * RATE_HZ)).astype(np.float32)
    start = int(rng.integers(RATE_HZ // 4))
    while start < len(wave):
        song = render_song(grammar, voice, rng)[: len(wave) - start]
        wave[start : start + len(song)] += song
        start += len(song) + int(grammar.pause_s * RATE_HZ * rng.uniform(0.5, 1.5))
    return np.asarray(0.5 * wave / np.abs(wave).max(), np.float32)


def print_file(path: Path) -> Fingerprint:
    return fingerprint(decode(path, RATE_HZ).samples, RATE_HZ)


def write(path: Path, wave: Float32, rate_hz: int, quality: float | None = None) -> Path:
    """`wave` as 16-bit wav, or as ogg of a Vorbis quality; in blocks, since a whole long wave
    overflows the stack of libsndfile's Vorbis encoder."""
    channels = 1 if wave.ndim == 1 else wave.shape[1]
    more = {} if quality is None else {"compression_level": 1 - quality / 10}
    with soundfile.SoundFile(path, "w", rate_hz, channels, **more) as file:
        for start in range(0, len(wave), BLOCK):
            file.write(wave[start : start + BLOCK].clip(-1, 1))
    return path


def as_ogg(wave: Float32, rate_hz: int, folder: Path) -> Path:
    return write(folder / "copy.ogg", wave, rate_hz, quality=2)


def as_mp3(wave: Float32, rate_hz: int, folder: Path) -> Path:
    source, copy = write(folder / "copy.wav", wave, rate_hz), folder / "copy.mp3"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-nostdin"]
    subprocess.run([*command, "-i", source, "-b:a", "96k", copy], check=True)
    return copy


def gained(gain_db: float) -> Callable[[Float32, int, Path], Path]:
    factor = np.float32(10 ** (gain_db / 20))
    return lambda wave, rate_hz, folder: write(folder / "copy.wav", wave * factor, rate_hz)


def without_start(wave: Float32, rate_hz: int, folder: Path) -> Path:
    return write(folder / "copy.wav", wave[2 * rate_hz :], rate_hz)


def without_end(wave: Float32, rate_hz: int, folder: Path) -> Path:
    return write(folder / "copy.wav", wave[: -2 * rate_hz], rate_hz)


CHANGES = {
    "ogg at quality 2": as_ogg,
    "mp3 at 96 kbit/s": as_mp3,
    "10 dB louder": gained(10),
    "10 dB quieter": gained(-10),
    "cut by 2 s at the start": without_start,
    "cut by 2 s at the end": without_end,
}


def pairs_of(table: pd.DataFrame) -> set[tuple[int, int]]:
    return set(zip(table["first"].tolist(), table["second"].tolist(), strict=True))


def find_copies(
    prints: Sequence[Fingerprint],
    waves: Sequence[tuple[int, Float32, int]],
    change: Callable[[Float32, int, Path], Path],
    folder: Path,
) -> tuple[int, set[tuple[int, int]]]:
    """How many changed copies are found, and the pairs of a copy and another recording.

    `waves` are places in `prints`, waves and sample rates.
    """
    copies = [print_file(change(wave, rate_hz, folder)) for _, wave, rate_hz in waves]
    found = pairs_of(near_pairs(copies, 3.0, prints))
    own = {(index, place) for index, (place, _, _) in enumerate(waves)}
    return len(found & own), {(waves[index][0], place) for index, place in found - own}


Songs = tuple[list[tuple[int, Float32, int]], list[Fingerprint]]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Songs:
    """Ten generated songs with their places and sample rates, and their fingerprints."""
    waves = [(index, sing(index, 5 + index % 3), RATE_HZ) for index in range(10)]
    file = tmp_path_factory.mktemp("songs") / "a.wav"
    return waves, [print_file(write(file, wave, RATE_HZ)) for _, wave, _ in waves]


@pytest.mark.parametrize("change", CHANGES)
def test_copies_of_generated_songs_are_found(change: str, songs: Songs, tmp_path: Path) -> None:
    waves, prints = songs
    assert near_pairs(prints, 3.0).empty
    assert find_copies(prints, waves, CHANGES[change], tmp_path) == (len(waves), set())


@pytest.mark.realbirds
@pytest.mark.skipif(not REALBIRDS.is_dir(), reason="the recordings of realbirds are not here")
@pytest.mark.parametrize(("of", "every"), [(3, 8), pytest.param(1, 1, marks=pytest.mark.slow)])
def test_copies_of_real_recordings_are_found_and_no_others(
    of: int, every: int, tmp_path: Path
) -> None:
    """All recordings, or every third; all of these changed, or every eighth."""
    paths = sorted(REALBIRDS.glob("train_audio/*/*.ogg"))
    formats = sorted(REALBIRDS.glob("formats/*"))
    known = {path.stem for path in formats}
    paths = [path for i, path in enumerate(paths) if i % of == 0 or path.stem in known] + formats
    prints = [print_file(path) for path in paths]

    def is_false(pair: tuple[int, int]) -> bool:
        stems = {paths[place].stem for place in pair}
        return len(stems) > 1 and stems != ONE_OBSERVATION

    found = pairs_of(near_pairs(prints, 3.0))
    assert {pair for pair in found if not is_false(pair)}
    assert sum(map(is_false, found)) <= 1

    waves = []
    for place, path in list(enumerate(paths))[::every]:
        wave, rate_hz = soundfile.read(path, dtype="float32")
        if len(wave) >= 5 * rate_hz:
            waves.append((place, wave, rate_hz))
    assert len(waves) >= 135 / of / every
    for change in CHANGES.values():
        n_found, others = find_copies(prints, waves, change, tmp_path)
        assert n_found >= 0.95 * len(waves), change
        assert sum(map(is_false, others)) <= 1, change


def test_a_fingerprint_has_a_number_every_31_ms_whatever_the_level() -> None:
    wave = np.rint(sing(0, 6.0) * 65534).astype(np.int16)
    numbers = fingerprint(wave, RATE_HZ)
    assert numbers.dtype == np.uint32
    assert len(numbers) == pytest.approx((6.0 - SPAN_S) / STEP_S, abs=2)
    assert np.unique(numbers).size > 50
    np.testing.assert_array_equal(numbers, fingerprint(wave, RATE_HZ))
    assert np.mean(numbers == fingerprint(wave // 4, RATE_HZ)) > 0.8


def test_silence_and_snippets_have_an_empty_fingerprint() -> None:
    assert fingerprint(np.zeros(96_000, np.int16), RATE_HZ).shape == (0,)
    assert fingerprint(np.zeros(0, np.int16), RATE_HZ).shape == (0,)
    wave = np.rint(sing(1, 0.5) * 32767).astype(np.int16)
    assert fingerprint(wave, RATE_HZ).shape == (0,)
    assert near_pairs([fingerprint(wave, RATE_HZ)] * 3, 3.0).empty


def test_an_ffmpeg_that_cannot_do_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = np.ones(64_000, np.int16)
    for executable in ("/bin/false", "/no/such/ffmpeg"):
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", executable)
        with pytest.raises(LabError, match="FFmpeg made no fingerprint"):
            fingerprint(wave, RATE_HZ)


def numbers_of(seed: int, n: int) -> Fingerprint:
    return np.random.default_rng(seed).integers(0, 1 << 32, n, dtype=np.uint32)


def flipped(numbers: Fingerprint, share: float, seed: int) -> Fingerprint:
    """The numbers with a share of their bits turned over."""
    rng = np.random.default_rng(seed)
    bits = rng.random((len(numbers), 32)) < share
    return np.asarray(numbers ^ np.packbits(bits, axis=1).view("<u4")[:, 0], np.uint32)


def test_the_longest_shared_stretch_is_measured() -> None:
    shared = numbers_of(0, 300)
    first = np.concatenate([numbers_of(1, 500), shared, numbers_of(2, 200)])
    second = np.concatenate([numbers_of(3, 90), shared, numbers_of(4, 700)])
    table = near_pairs([first, numbers_of(5, 400), second], 4.0)
    assert pairs_of(table) == {(0, 2)}
    row = table.iloc[0]
    assert row["overlap_s"] == pytest.approx(299 * STEP_S + SPAN_S, abs=0.5)
    assert row["similarity"] == pytest.approx(1)
    cut = near_pairs([shared, shared[65:]], 4.0).iloc[0]
    assert cut["overlap_s"] == pytest.approx(234 * STEP_S + SPAN_S)
    assert near_pairs([first, second], 15.0).empty
    assert pairs_of(near_pairs([second], 4.0, [numbers_of(6, 300), first, second])) == {
        (0, 1),
        (0, 2),
    }


def test_recordings_that_share_only_a_steady_pattern_are_no_pair() -> None:
    steady = np.uint32(0xDEADBEEF)
    noise = [steady ^ (np.uint32(1) << (numbers_of(seed, 400) % 4)) for seed in range(6)]
    assert near_pairs(noise, 3.0).empty
    pauses = [np.concatenate([numbers_of(seed, 90), np.full(300, steady)]) for seed in range(6)]
    assert near_pairs(pauses, 3.0).empty


def test_every_recording_of_a_crowd_of_copies_is_linked() -> None:
    song = numbers_of(0, 80)
    table = near_pairs([flipped(song, 0.02, seed) for seed in range(100)], 2.0)
    assert set(table["second"]) == set(range(1, 100))
    assert (table["first"] < table["second"]).all()
    assert table.equals(table.sort_values(["first", "second"], ignore_index=True))


def test_an_overlap_that_cannot_be_told_is_refused() -> None:
    for overlap_s in (1.0, float("nan")):
        with pytest.raises(DataError, match="shorter pieces"):
            near_pairs([numbers_of(0, 100)], overlap_s)
    assert near_pairs([], 3.0).dtypes.to_dict() == {
        "first": np.dtype("int64"),
        "second": np.dtype("int64"),
        "overlap_s": np.dtype("float64"),
        "similarity": np.dtype("float64"),
    }


@settings(max_examples=10)
@given(data=st.data())
def test_the_index_finds_what_every_offset_finds(data: st.DataObject) -> None:
    window = int((2.0 - SPAN_S) / STEP_S)
    song = numbers_of(data.draw(st.integers(0, 99)), 160)
    prints = []
    for index in range(data.draw(st.integers(2, 4))):
        start = data.draw(st.integers(0, 80))
        piece = song[start : start + data.draw(st.integers(0, 80))]
        noisy = flipped(piece, data.draw(st.sampled_from([0.0, 0.005, 0.01])), index)
        edges = [
            numbers_of(1_000 + 2 * index + side, data.draw(st.integers(0, 60))) for side in (0, 1)
        ]
        prints.append(np.concatenate([edges[0], noisy, edges[1]]))
    expected = {}
    for first in range(len(prints)):
        for second in range(first + 1, len(prints)):
            a, b = prints[first], prints[second]
            best = max(compare(a, b, lag, window) for lag in range(-len(b), len(a) + 1))
            if best[1]:
                expected[first, second] = best
    table = near_pairs(prints, 2.0)
    assert pairs_of(table) == set(expected)
    for row in table.itertuples():
        similarity, n_shared = expected[row.first, row.second]
        assert row.overlap_s == pytest.approx((n_shared - 1) * STEP_S + SPAN_S)
        assert row.similarity == pytest.approx(similarity)

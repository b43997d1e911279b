"""Facts of files: headers, signals, fingerprints and trims, and the cache that keeps them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from birdlab.data.audio import decode
from birdlab.data.facts import Facts, NeedsBuild
from birdlab.data.fingerprint import fingerprint
from birdlab.data.signals import trim_range
from birdlab.data.store import WaveStore
from birdlab.errors import LabError

REPOSITORY = Path(__file__).parents[1]
RATE_HZ = 32_000
LONG_AGO_S = 1_600_000_000

Float64 = npt.NDArray[np.float64]


def chirp(length_s: float, start_hz: float = 2_000, rate_hz: int = RATE_HZ) -> Float64:
    times = np.arange(round(length_s * rate_hz)) / rate_hz
    return 0.5 * np.sin(2 * np.pi * (start_hz * times + 400 * times**2))


def write(path: Path, wave: Float64, rate_hz: int = RATE_HZ, subtype: str | None = None) -> Path:
    soundfile.write(path, wave, rate_hz, subtype=subtype)
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return path


def open_facts(folder: Path, *, build: bool = True, jobs: int = 1) -> Facts:
    return Facts(WaveStore(folder / "store"), folder / "hashes.sqlite", build=build, jobs=jobs)


def test_headers_state_rate_channels_codec_and_length(tmp_path: Path) -> None:
    stereo = np.stack([chirp(0.5, rate_hz=44_100)] * 2, axis=1)
    (tmp_path / "text.ogg").write_text("this is text")
    (tmp_path / "empty.wav").touch()
    paths = [
        write(tmp_path / "a.wav", stereo, 44_100),
        write(tmp_path / "b.flac", chirp(0.25), subtype="PCM_24"),
        write(tmp_path / "c.ogg", chirp(1.0)),
        write(tmp_path / "d.mp3", chirp(1.0)),
        write(tmp_path / "e.wav", chirp(0.5, rate_hz=8_000), 8_000, "PCM_U8"),
        write(tmp_path / "f.wav", stereo, 96_000, "FLOAT"),
        write(tmp_path / "g.ogg", chirp(1.0, rate_hz=48_000), 48_000, "OPUS"),
        tmp_path / "text.ogg",
        tmp_path / "empty.wav",
        tmp_path / "absent.ogg",
        tmp_path,
        tmp_path / "a.wav",
    ]
    facts = open_facts(tmp_path, build=False)
    first, again = facts.headers(paths), facts.headers(paths)
    assert first.equals(again)
    assert first["codec"].tolist()[:7] == [
        "wav/pcm_16",
        "flac/pcm_24",
        "ogg/vorbis",
        "mp3",
        "wav/pcm_u8",
        "wav/float",
        "opus",
    ]
    assert first["sample_rate_hz"].tolist()[:6] == [44_100, 32_000, 32_000, 32_000, 8_000, 96_000]
    assert first["channels"].tolist()[:7] == [2, 1, 1, 1, 1, 2, 1]
    np.testing.assert_allclose(first["duration_s"][:3], [0.5, 0.25, 1.0])
    assert (first["reason"][:7] == "").all()
    bad = first.iloc[7:11]
    assert (bad["codec"] == "").all() and (bad["sample_rate_hz"] == 0).all()
    assert bad["duration_s"].isna().all()
    for reason, words in zip(
        bad["reason"], ["not audio", "zero", "no such", "folder"], strict=True
    ):
        assert words in reason
    assert first.iloc[11].equals(first.iloc[0].rename(11))
    assert facts.headers([]).shape == (0, 5)


def test_a_header_is_read_again_only_when_size_or_time_changed(tmp_path: Path) -> None:
    facts = open_facts(tmp_path)
    path = write(tmp_path / "a.wav", chirp(1.0))
    assert facts.headers([path])["reason"].tolist() == [""]
    path.write_bytes(b"x" * path.stat().st_size)
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    assert facts.headers([path])["reason"].tolist() == [""]
    os.utime(path, (LONG_AGO_S, LONG_AGO_S + 1))
    assert "not audio" in facts.headers([path])["reason"][0]
    young = tmp_path / "young.wav"
    soundfile.write(young, chirp(1.0), RATE_HZ)
    assert facts.headers([young])["reason"].tolist() == [""]
    stamp = young.stat().st_mtime_ns
    young.write_bytes(b"x" * young.stat().st_size)
    os.utime(young, ns=(stamp, stamp))
    assert "not audio" in facts.headers([young])["reason"][0]


def test_audio_that_is_not_decoded_yet_is_asked_for(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.wav", chirp(1.0)), write(tmp_path / "2.wav", chirp(2.0))
    copy = tmp_path / "copy.wav"
    copy.write_bytes(one.read_bytes())
    planning = open_facts(tmp_path, build=False)
    for ask in (
        planning.signals,
        planning.fingerprints,
        lambda paths: planning.trims(paths, 30, 0),
    ):
        with pytest.raises(NeedsBuild, match="does not hold all") as caught:
            ask([one, two, copy, tmp_path / "absent.wav"])
        assert caught.value.n_files == 2
    assert not list((tmp_path / "store").glob("*.i16"))
    built = open_facts(tmp_path).signals([one, two, copy])
    assert planning.signals([one, two, copy]).equals(built)
    assert len(planning.fingerprints([one, two])) == 2
    with pytest.raises(NeedsBuild):
        planning.signals([write(tmp_path / "3.wav", chirp(3.0))])


def test_signals_are_of_the_decoded_samples(tmp_path: Path) -> None:
    wave = np.rint(chirp(1.0) * (1 << 15)) / (1 << 15)
    half_silent = np.concatenate([wave, np.zeros(RATE_HZ)])
    clipped = np.clip(4 * wave, -1, 1)
    paths = [
        write(tmp_path / "a.wav", wave),
        write(tmp_path / "a.flac", wave),
        write(tmp_path / "quiet.wav", wave / 2),
        write(tmp_path / "half.wav", half_silent),
        write(tmp_path / "clipped.wav", clipped),
        write(tmp_path / "zeros.wav", 0 * wave),
        tmp_path / "absent.wav",
    ]
    table = open_facts(tmp_path, jobs=3).signals(paths)
    content = table["content"].tolist()
    assert content[0] == content[1] and len(set(content)) == 5
    assert all(len(digest) == 32 for digest in content[:5])
    np.testing.assert_allclose(table["duration_s"][:5], [1, 1, 1, 2, 1])
    np.testing.assert_allclose(table["peak"][:5], [0.5, 0.5, 0.25, 0.5, 1.0], atol=1e-3)
    np.testing.assert_allclose(table["silent_share"][:5], [0, 0, 0, 0.5, 0], atol=0.01)
    assert table["clipped_share"][4] > 0.5
    assert (table["clipped_share"][:4] < 0.001).all()
    for row in (5, 6):
        assert content[row] == "" and math.isnan(table["peak"][row])
    wanted = [""] * 5 + ["silent: every sample is zero", "there is no such file"]
    assert table["reason"].tolist() == wanted


def test_a_file_that_cannot_be_decoded_is_remembered_as_such(tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav", chirp(2.0))
    bad = write(tmp_path / "bad.ogg", chirp(3.0))
    bad.write_bytes(bad.read_bytes()[:-3_000])
    nans = write(tmp_path / "nan.wav", np.full(9_000, np.nan), subtype="FLOAT")
    paths = [bad, good, nans]
    table = open_facts(tmp_path).signals(paths)
    assert "cut off" in table["reason"][0]
    assert table["reason"][1] == ""
    assert "NaN" in table["reason"][2]
    assert table["content"].tolist()[::2] == ["", ""]
    planning = open_facts(tmp_path, build=False)
    assert planning.signals(paths).equals(table)
    assert open_facts(tmp_path).signals(paths).equals(table)
    assert [len(numbers) > 0 for numbers in planning.fingerprints(paths)] == [False, True, False]
    trims = planning.trims(paths, 40, 0.1)
    assert trims["start_s"].isna().tolist() == [True, False, True]


def test_fingerprints_and_trims_are_those_of_the_samples(tmp_path: Path) -> None:
    silence = np.zeros(RATE_HZ)
    path = write(tmp_path / "a.wav", np.concatenate([silence, chirp(2.0), silence]))
    facts = open_facts(tmp_path)
    samples = decode(path, RATE_HZ).samples
    for _ in range(2):
        np.testing.assert_array_equal(facts.fingerprints([path])[0], fingerprint(samples, RATE_HZ))
        for top_db, margin_s in ((40, 0.0), (40, 0.5), (20, 0.5)):
            row = facts.trims([path], top_db, margin_s).iloc[0]
            assert tuple(row) == trim_range(samples, RATE_HZ, top_db, margin_s)
    assert facts.trims([path], 40, 0.5).iloc[0].tolist() == pytest.approx([0.5, 3.5], abs=0.03)


def test_facts_outlive_the_waveforms(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.wav", chirp(1.0 + i)) for i in range(3)]
    facts = open_facts(tmp_path)
    signals, prints = facts.signals(paths), facts.fingerprints(paths)
    for shard in (tmp_path / "store").glob("0*"):
        shard.unlink()
    moved = tmp_path / "moved.wav"
    paths[2].rename(moved)
    planning = open_facts(tmp_path, build=False)
    assert planning.signals([*paths[:2], moved]).equals(signals)
    for mine, theirs in zip(planning.fingerprints([*paths[:2], moved]), prints, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(NeedsBuild):
        planning.trims(paths[:2], 30, 0)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    facts = open_facts(tmp_path)
    facts.progress = lambda done, n: told.append((done, n))
    paths = [write(tmp_path / f"{i}.wav", chirp(0.1 + i / 10)) for i in range(4)]
    facts.signals(paths)
    assert told[-1] == (4, 4)
    told.clear()
    facts.signals(paths)
    assert told == []


def test_several_processes_may_use_one_cache(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.wav", chirp(0.2 + i / 50)) for i in range(12)]
    code = (
        "import sys; from pathlib import Path; from birdlab.data.facts import Facts;"
        "from birdlab.data.store import WaveStore; root = Path(sys.argv[1]);"
        "facts = Facts(WaveStore(root / 'store'), root / 'hashes.sqlite', build=True);"
        "paths = [root / f'{i}.wav' for i in range(12)];"
        "print(facts.headers(paths).to_csv(), facts.signals(paths).to_csv())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    facts = open_facts(tmp_path, build=False)
    expected = f"{facts.headers(paths).to_csv()} {facts.signals(paths).to_csv()}\n"
    assert outputs == [expected] * 3


def test_a_cache_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", chirp(0.5))
    facts = open_facts(tmp_path)
    facts.cache.parent.mkdir(exist_ok=True)
    facts.cache.write_text("not a database, only text that is long enough to be looked at" * 20)
    for ask in (facts.headers, facts.signals):
        with pytest.raises(LabError, match="cache of facts"):
            ask([path])

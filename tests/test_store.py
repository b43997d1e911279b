"""The waveform store: what is read back, interrupted builds, bad files, memory."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birdlab.data import building
from birdlab.data.audio import decode
from birdlab.data.building import BadFile, Need, in_order
from birdlab.data.hashes import hash_files
from birdlab.data.index import KeyIndex
from birdlab.data.shards import ROW, ShardWriter, list_shards
from birdlab.data.store import WaveStore
from birdlab.errors import DataError, LabError

REPOSITORY = Path(__file__).parents[1]
SHARD_BYTES = 40_000


def write_waves(folder: Path, n: int, rate_hz: int = 44_100) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(n):
        rng = np.random.default_rng(index)
        wave = rng.standard_normal(5_000 + 500 * index) * rng.choice([0.001, 0.05, 0.2])
        paths.append(folder / f"{index:03d}.wav")
        soundfile.write(paths[-1], wave.clip(-1, 1), rate_hz, subtype="FLOAT")
    return paths


def items_of(store: WaveStore, paths: list[Path], cache: Path) -> list[tuple[str, Path]]:
    hashes = hash_files(paths, cache)
    return [(store.key(h or "none"), path) for h, path in zip(hashes, paths, strict=True)]


@pytest.fixture
def built(tmp_path: Path) -> tuple[WaveStore, list[tuple[str, Path]]]:
    store = WaveStore(tmp_path / "store", shard_bytes=SHARD_BYTES)
    items = items_of(store, write_waves(tmp_path / "audio", 12), tmp_path / "hashes.db")
    assert store.build(items, jobs=2) == []
    return store, items


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.glob("*.[in]*"))}


def test_the_store_gives_what_decode_gives(built: tuple[WaveStore, list[tuple[str, Path]]]) -> None:
    store, items = built
    assert len(list_shards(store.root)) > 2
    assert store.missing(key for key, _ in items) == []
    for key, path in items:
        wave = decode(path).to_float()
        assert store.n_samples(key) == len(wave)
        np.testing.assert_array_equal(store.read_all(key), wave)
        np.testing.assert_array_equal(store.read(key, 700, 301), wave[700:1001])
        assert store.read(key, len(wave), 0).shape == (0,)


def test_rows_give_what_keys_give_without_a_copy(
    built: tuple[WaveStore, list[tuple[str, Path]]],
) -> None:
    store, items = built
    keys = [key for key, _ in items]
    rows = store.locate([*keys, keys[0]])
    assert rows.dtype == np.int64
    assert rows[-1] == rows[0]
    for row, (key, path) in zip(rows.tolist(), items, strict=False):
        wave = decode(path)
        assert store.length_of(row) == store.n_samples(key) == wave.n_samples
        assert store.scale_of(row) == store.scale(key) == wave.scale
        crop = store.read_row(row, 5, 100)
        np.testing.assert_array_equal(crop, wave.samples[5:105])
        np.testing.assert_array_equal(store.read_int16(key, 5, 100), crop)
        assert not crop.flags.owndata
        assert not crop.flags.writeable
        with pytest.raises(DataError, match="leaves its recording"):
            store.read_row(row, wave.n_samples - 1, 2)
    with pytest.raises(DataError, match="does not hold 2 recordings") as caught:
        store.locate([keys[0], "no", "not"])
    assert caught.value.got == "no, not"
    with pytest.raises(IndexError):
        store.read_row(len(items), 0, 1)
    assert store.locate([]).shape == (0,)


def test_rows_stay_valid_when_the_store_grows(
    built: tuple[WaveStore, list[tuple[str, Path]]], tmp_path: Path
) -> None:
    store, items = built
    rows = store.locate([key for key, _ in items])
    more = items_of(store, write_waves(tmp_path / "more", 30)[12:], tmp_path / "hashes.db")
    WaveStore(store.root, shard_bytes=SHARD_BYTES).build(more)
    assert store.locate([key for key, _ in more]).min() > rows.max()
    np.testing.assert_array_equal(store.locate([key for key, _ in items]), rows)
    for row, (_, path) in zip(rows.tolist(), items, strict=True):
        np.testing.assert_array_equal(store.read_row(row, 0, 500), decode(path).samples[:500])


@given(st.lists(st.text("ab", max_size=12), unique=True, max_size=30), st.data())
def test_keys_that_begin_alike_are_told_apart(keys: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(keys)), max_size=3)))
    parts = [
        np.array([(key.encode(),) for key in keys[a:b]], [("key", "S32")])
        for a, b in zip([0, *cuts], [*cuts, len(keys)], strict=True)
    ]
    index = KeyIndex(lambda number: parts[number])
    index.extend(range(len(parts) - 1))
    index.extend(range(len(parts)))
    asked = data.draw(st.lists(st.text("ab", max_size=12))) + keys
    wanted = [keys.index(key) if key in keys else -1 for key in asked]
    assert index.find_all(asked).tolist() == wanted == [index.find(key) for key in asked]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_crop_lies_within_its_recording(
    built: tuple[WaveStore, list[tuple[str, Path]]], data: st.DataObject
) -> None:
    store, items = built
    key, _ = data.draw(st.sampled_from(items))
    whole = store.read_all(key)
    start = data.draw(st.integers(-2, len(whole) + 2))
    n = data.draw(st.integers(-2, len(whole) + 2))
    if start >= 0 and n >= 0 and start + n <= len(whole):
        np.testing.assert_array_equal(store.read(key, start, n), whole[start : start + n])
    else:
        with pytest.raises(DataError, match="leaves its recording"):
            store.read(key, start, n)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    store = WaveStore(tmp_path / "absent")
    assert store.missing(["b", "a", "b"]) == ["b", "a"]
    with pytest.raises(DataError, match="does not hold"):
        store.read("a", 0, 1)
    with pytest.raises(DataError, match="does not hold"):
        store.n_samples("a")


def test_keys_name_content_and_rate(tmp_path: Path) -> None:
    keys = {WaveStore(tmp_path, rate).key(h) for rate in (16_000, 32_000) for h in ("a", "b")}
    assert len(keys) == 4
    assert all(len(key) == 32 for key in keys)


def test_only_new_content_is_decoded(
    built: tuple[WaveStore, list[tuple[str, Path]]], tmp_path: Path
) -> None:
    store, items = built
    before = contents(store.root)
    copy = tmp_path / "copy.wav"
    copy.write_bytes(items[3][1].read_bytes())
    more = write_waves(tmp_path / "more", 13)[12:]
    steps: list[tuple[int, int]] = []
    wanted = items_of(store, [copy, *more], tmp_path / "hashes.db")
    assert store.build([*items, *wanted], progress=lambda *step: steps.append(step)) == []
    assert steps == [(1, 1)]
    assert contents(store.root).items() > before.items()
    np.testing.assert_array_equal(store.read_all(wanted[0][0]), store.read_all(items[3][0]))
    assert store.build(items) == []


def test_jobs_do_not_change_a_byte(tmp_path: Path) -> None:
    paths = write_waves(tmp_path / "audio", 12)
    for jobs in (1, 4):
        store = WaveStore(tmp_path / str(jobs), shard_bytes=SHARD_BYTES)
        store.build(items_of(store, paths, tmp_path / "hashes.db"), jobs=jobs)
    assert contents(tmp_path / "1") == contents(tmp_path / "4")


def test_bad_files_are_listed_and_nothing_else_is_lost(tmp_path: Path) -> None:
    store = WaveStore(tmp_path / "store", shard_bytes=SHARD_BYTES)
    paths = write_waves(tmp_path / "audio", 6)
    paths[1].write_bytes(b"")
    paths[2].write_text("no audio")
    paths[4].write_bytes(paths[4].read_bytes()[:-4000])
    paths.append(tmp_path / "audio" / "absent.wav")
    items = [(store.key(path.name), path) for path in paths]
    bad = store.build(items, jobs=2)
    assert [file.path for file in bad] == [paths[1], paths[2], paths[4], paths[6]]
    assert all(isinstance(file, BadFile) for file in bad)
    for file, said in zip(bad, ("zero bytes", "not audio", "cut off", "no such file"), strict=True):
        assert said in file.reason
    assert store.missing(key for key, _ in items) == [items[n][0] for n in (1, 2, 4, 6)]
    np.testing.assert_array_equal(store.read_all(items[5][0]), decode(paths[5]).to_float())


BUILD = """
import sys, time
from pathlib import Path
from birdlab.data.hashes import hash_files
from birdlab.data.store import WaveStore
root, stop = Path(sys.argv[1]), int(sys.argv[2])
paths = sorted((root / "audio").iterdir())
store = WaveStore(root / sys.argv[3], shard_bytes=int(sys.argv[4]))
keys = [store.key(h) for h in hash_files(paths, root / "hashes.db")]
def progress(done, total):
    if done == stop:
        print("here", flush=True)
        time.sleep(600)
bad = store.build(list(zip(keys, paths)), jobs=2, progress=progress)
print(len(bad), len(store.missing(keys)))
"""


def start_build(root: Path, stop: int, name: str = "store") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(root), str(stop), name, str(SHARD_BYTES)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def test_a_killed_build_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    write_waves(tmp_path / "audio", 12)
    whole = start_build(tmp_path, -1, "whole").communicate(timeout=60)[0]
    assert whole.split() == ["0", "0"]
    kept = [0]
    for share in np.random.default_rng(7).random(3):  # of what is left to decode
        left = 12 - sum(len(np.load(path)) for path in (tmp_path / "store").glob("*.npy"))
        run = start_build(tmp_path, 1 + int(share * left))
        assert run.stdout is not None
        assert run.stdout.readline().strip() == "here"
        os.kill(run.pid, signal.SIGKILL)
        run.communicate(timeout=60)
        kept.append(len(list_shards(tmp_path / "store")))
    assert kept[-1] > 0, "no shard was closed before a kill"
    assert kept[-1] < len(list_shards(tmp_path / "whole")), "nothing was left to resume"
    assert start_build(tmp_path, -1).communicate(timeout=60)[0].split() == ["0", "0"]
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_samples_without_an_index_are_overwritten(
    built: tuple[WaveStore, list[tuple[str, Path]]],
) -> None:
    store, items = built
    wanted = contents(store.root)
    last = list_shards(store.root)[-1]
    (store.root / f"{last:05d}.npy").unlink()
    again = WaveStore(store.root, shard_bytes=SHARD_BYTES)
    assert again.missing(key for key, _ in items)
    assert again.build(items) == []
    assert contents(store.root) == wanted


def test_two_processes_build_once(tmp_path: Path) -> None:
    write_waves(tmp_path / "audio", 12)
    runs = [start_build(tmp_path, -1) for _ in range(2)]
    for run in runs:
        assert run.communicate(timeout=60)[0].split() == ["0", "0"]
    rows = sum(len(np.load(path)) for path in (tmp_path / "store").glob("*.npy"))
    assert rows == 12


def test_a_reader_sees_what_another_store_built(
    built: tuple[WaveStore, list[tuple[str, Path]]],
) -> None:
    store, items = built
    reader = pickle.loads(pickle.dumps(WaveStore(store.root)))  # noqa: S301
    assert len(pickle.dumps(store)) < 500
    np.testing.assert_array_equal(reader.read_all(items[0][0]), store.read_all(items[0][0]))


@pytest.mark.parametrize("name", ["00000.i16", "00000.npy"])
def test_a_damaged_store_is_refused(
    built: tuple[WaveStore, list[tuple[str, Path]]], name: str
) -> None:
    store, items = built
    path = store.root / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LabError, match="damaged") as caught:
        WaveStore(store.root).missing([items[0][0]])
    assert name in str(caught.value.where)


def test_a_full_disk_is_refused_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = WaveStore(tmp_path / "store")
    items = [(store.key(path.name), path) for path in write_waves(tmp_path / "audio", 2)]
    monkeypatch.setattr(building, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(LabError, match="no room"):
        store.build(items)
    assert contents(tmp_path / "store") == {}


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 60))
def test_work_is_given_back_in_order_within_its_budget(costs: list[int], budget: int) -> None:
    running: dict[int, int] = {}
    most = 0

    def work(index: int) -> int:
        time.sleep(0.0001 * (index % 3))
        return index

    class Watched(ThreadPoolExecutor):
        def submit(self, function, index):  # type: ignore[no-untyped-def, override]
            running[index] = costs[index]
            return super().submit(function, index)

    with Watched(3) as pool:
        got = []
        for index in in_order(pool, work, range(len(costs)), np.array(costs, np.int64), budget):
            most = max(most, sum(running.values()) if len(running) > 1 else 0)
            got.append(index)
            del running[index]
    assert got == list(range(len(costs)))
    assert most <= budget


INDEX_MEMORY = """
import sys
from pathlib import Path
from birdlab.data.store import WaveStore
def anonymous():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024
before = anonymous()
store = WaveStore(Path(sys.argv[1]))
keys = [f"{i:032x}" for i in range(0, 200_000, 4096)]
assert len(store.locate(keys)) == len(keys)
print(anonymous() - before)
"""


def test_the_index_hardly_takes_memory(tmp_path: Path) -> None:
    rows = np.zeros(50_000, ROW)
    rows["n_samples"], rows["start"] = 1, np.arange(50_000)
    for shard in range(4):
        rows["key"] = [f"{i:032x}".encode() for i in range(shard * 50_000, (shard + 1) * 50_000)]
        rows["shard"] = shard
        np.save(tmp_path / f"{shard:05d}.npy", rows)
        (tmp_path / f"{shard:05d}.i16").write_bytes(bytes(100_000))
    command = [sys.executable, "-c", INDEX_MEMORY, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert int(run.stdout) < 60 * 200_000, "the list itself is 12 bytes a recording"


WATCHED = """
import threading
seen, done = [], threading.Event()
def watch():
    while not done.wait(0.005):
        status = Path("/proc/self/status").read_text()
        seen.append(int(status.split("RssAnon:")[1].split()[0]) * 1024)
watcher = threading.Thread(target=watch)
watcher.start()
"""


def peak_of_a_long_build(tmp_path: Path) -> int:
    """The peak of anonymous memory, bytes, of a build with a file of 40 minutes."""
    folder, rate_hz = tmp_path / "audio", 44_100
    write_waves(folder, 3)
    with soundfile.SoundFile(folder / "long.wav", "w", rate_hz, 1, "PCM_U8") as file:
        minute = np.random.default_rng(0).standard_normal(rate_hz * 60) * 0.1
        for _ in range(40):
            file.write(minute)
    before_build, build = BUILD.split("bad = ")
    program = (
        f"{before_build}{WATCHED}bad = {build}"
        "done.set()\n"
        "watcher.join()\n"
        "print(max(seen), len(seen), store.n_samples(keys[-1]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), "-1", "store", str(1 << 29)],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    n_bad, n_missing, peak_bytes, n_seen, n_samples = map(int, run.stdout.split())
    assert (n_bad, n_missing, n_samples) == (0, 0, 40 * 60 * 32_000)
    assert n_seen > 50
    assert 2 * n_samples < peak_bytes
    return peak_bytes


def test_the_memory_of_a_build_does_not_grow_with_a_long_file(tmp_path: Path) -> None:
    assert peak_of_a_long_build(tmp_path) < 500e6


def test_a_damaged_header_does_not_fill_the_disk_on_paper(tmp_path: Path) -> None:
    store = WaveStore(tmp_path / "store")
    good, lying = tmp_path / "good.flac", tmp_path / "lying.flac"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000)
    soundfile.write(good, noise, 32_000)
    content = bytearray(good.read_bytes())
    content[21] |= 0x0F  # STREAMINFO: the 36 bits of the number of samples, all set
    content[22:26] = b"\xff" * 4
    lying.write_bytes(content)
    assert soundfile.info(lying).duration > 1e6
    bad = store.build([("a" * 32, good), ("b" * 32, lying)])
    assert [(file.path, file.reason.partition(":")[0]) for file in bad] == [
        (lying, "the file is cut off")
    ]
    assert store.n_samples("a" * 32) == 32_000


def test_a_disk_that_fills_up_is_an_error_in_words(tmp_path: Path) -> None:
    wave = decode(write_waves(tmp_path / "audio", 1)[0])
    with (
        pytest.raises(LabError, match="cannot be written") as caught,
        ShardWriter(tmp_path) as writer,
    ):
        (tmp_path / "00000.i16.part").symlink_to("/dev/full")
        writer.add("a" * 32, wave)
    assert caught.value.got == "No space left on device"


def test_a_long_build_says_how_long_it_will_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [*write_waves(tmp_path / "audio", 9), tmp_path / "gone.wav"]
    items = [(path.name, path) for path in paths]
    needs: list[Need] = []
    WaveStore(tmp_path / "short").build(items, announce=needs.append)
    assert needs[0].seconds == 0, "no estimate where there is little to decode"
    monkeypatch.setattr(building, "_LONG_AUDIO_S", 0.1)
    began = time.perf_counter()
    WaveStore(tmp_path / "store").build(items, announce=needs.append)
    took = time.perf_counter() - began
    assert needs[1].n_files == 10 and 1 < needs[1].audio_s < 3
    assert 0 < (needs[1].seconds or 0) < took
    WaveStore(tmp_path / "none").build(items[-1:], announce=needs.append)
    assert needs[2].seconds == 0 and needs[2].audio_s == 0

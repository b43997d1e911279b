"""`predict_to_file`: the submission is whole, right, and there, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from tinymodels import CLASSES, RATE, build_card, save_tiny_model

from birdlab.data.audio import decode
from birdlab.errors import PredictError, SpecError
from birdlab.evaluate.blends import Blend, blend_members
from birdlab.evaluate.postprocess import apply_steps
from birdlab.evaluate.windows import iter_windows
from birdlab.infer.deadline import Race, Timer
from birdlab.infer.job import describe_job, plan_course, plan_rows
from birdlab.infer.passes import Engine, ModelChoice
from birdlab.infer.predict import PredictRequest, predict_to_file
from birdlab.infer.progress import Progress
from birdlab.infer.reading import find_soundscapes
from birdlab.infer.session import OnnxPredictor
from birdlab.infer.store import WorkStore

ROOT = Path(__file__).parents[1]
COLUMNS = list(CLASSES)
LENGTHS_S = (7.3, 0.4, 1.0, 12.0, 3.001, 20.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three members, all at once or the last one slow; and one for each way to blend."""
    folder = tmp_path_factory.mktemp("models")
    known = [None, CLASSES[:2], None]
    for blend in (Blend(), Blend("power", 2.0), Blend("geometric"), Blend("rank")):
        card = build_card(3, blend=blend, known=known, weights=[1, 2, 0.5])
        save_tiny_model(folder / f"{blend.kind}.onnx", card)
    slow = build_card(2, weights=[1, 2])
    save_tiny_model(folder / "slow.onnx", slow, [0, 4])
    save_tiny_model(folder / "slower.onnx", slow, [0, 1200])
    timed = build_card(2, weights=[2, 1], ms=[0.02, 90.0])
    save_tiny_model(folder / "timed.onnx", timed, [0, 1200])
    return folder


def write_noise(path: Path, seconds: float, seed: int, rate: int = RATE) -> None:
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    loudness = np.repeat(rng.uniform(0.01, 0.3, n // 800 + 1), 800)[:n]
    soundfile.write(path, rng.uniform(-1, 1, n) * loudness, rate)


@pytest.fixture(scope="module")
def scapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six files, 45 windows, one of another rate."""
    folder = tmp_path_factory.mktemp("scapes")
    for i, seconds in enumerate(LENGTHS_S):
        write_noise(folder / f"site{i}_0500.wav", seconds, i, 12_000 if i == 3 else RATE)
    return folder


def request(models: Path, scapes: Path, folder: Path, **changes: object) -> PredictRequest:
    plain = PredictRequest(
        models / "mean.onnx", scapes, folder / "submission.csv", sessions=1, threads=1
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=dict.fromkeys(COLUMNS, np.float32), index_col="row_id")


def windows_of(scapes: Path, model: Path) -> tuple[list[str], np.ndarray]:
    """Row ids and inputs of all files by the road of validation."""
    windowing = OnnxPredictor(model, threads=1).card.windowing
    ids, waves = [], []
    for file in sorted(scapes.glob("*_0500.wav")):
        if "b_" in file.name:  # the one that is no audio
            continue
        found = list(iter_windows(decode(file, RATE), windowing))
        ids += [f"{file.stem}_{i + 1}" for i in range(len(found))]
        waves += found
    return ids, np.stack(waves)


# ---------------------------------------------------------------- what is written


@pytest.mark.parametrize("kind", ["mean", "power", "geometric"])
def test_the_blend_of_stored_members_is_that_of_the_graph(
    models: Path, scapes: Path, tmp_path: Path, kind: str
) -> None:
    model = models / f"{kind}.onnx"
    summary = predict_to_file(request(models, scapes, tmp_path, model=model))
    ids, waves = windows_of(scapes, model)
    expected = OnnxPredictor(model, threads=1)(waves)
    table = read(summary.output)
    assert list(table.index) == ids
    assert np.ptp(expected) > 0.2
    np.testing.assert_allclose(table[COLUMNS], expected, atol=1e-6)
    parquet = pd.read_parquet(summary.windows_file)
    assert list(parquet.columns) == ["row_id", "file", "end_s", *COLUMNS]
    assert parquet["file"].iloc[0] == "site0_0500.wav"
    assert parquet["end_s"].iloc[:8].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_array_equal(parquet[COLUMNS], table[COLUMNS])


def test_ranks_are_taken_over_all_windows(models: Path, scapes: Path, tmp_path: Path) -> None:
    model = models / "rank.onnx"
    predictor = OnnxPredictor(model, threads=1)
    _, waves = windows_of(scapes, model)
    probs = predictor.member_probs(waves, [0, 1, 2])
    expected = blend_members(probs, Blend("rank"), list(predictor.card.shares()))
    summary = predict_to_file(request(models, scapes, tmp_path, model=model))
    np.testing.assert_allclose(read(summary.output)[COLUMNS], expected, atol=1e-6)


def test_sessions_threads_and_batches_change_nothing(
    models: Path, scapes: Path, tmp_path: Path
) -> None:
    first = predict_to_file(request(models, scapes, tmp_path / "a"))
    other = predict_to_file(
        request(models, scapes, tmp_path / "b", sessions=3, threads=2, batch=5, readers=1)
    )
    np.testing.assert_allclose(read(first.output), read(other.output), atol=1e-6)
    assert (first.settings["sessions"], other.settings["sessions"]) == ("1", "3")
    default = predict_to_file(request(models, scapes, tmp_path / "c", sessions=None, threads=None))
    np.testing.assert_allclose(read(first.output), read(default.output), atol=1e-6)


def test_the_summary_says_what_was_done(models: Path, scapes: Path, tmp_path: Path) -> None:
    summary = predict_to_file(request(models, scapes, tmp_path))
    values = read(summary.output)[COLUMNS].to_numpy()
    assert (summary.n_files, summary.n_windows, summary.n_rows) == (6, 46, 46)
    assert sum(summary.histogram) == 46
    tenths = np.minimum((values.max(axis=1) * 10).astype(int), 9)
    assert list(summary.histogram) == np.bincount(tenths, minlength=10).tolist()
    counts = (values > 0.5).sum(axis=0)
    assert summary.often[COLUMNS[int(counts.argmax())]] == counts.max()
    assert summary.resampled == {"site3_0500.wav": 12_000}
    said = str(summary)
    assert "resampled from 12000 Hz: site3_0500.wav" in said
    assert "a file" in said and "ms a window" in said
    assert json.loads(json.dumps(summary.to_json()))["n_windows"] == 46
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "submission.csv", "submission.windows.parquet",
    ]  # fmt: skip


def test_post_processing_of_the_request_or_of_the_card(
    models: Path, scapes: Path, tmp_path: Path
) -> None:
    steps = ({"kind": "power", "exponent": 2.0},)
    plain = predict_to_file(request(models, scapes, tmp_path / "a"))
    values = read(plain.output)[COLUMNS].to_numpy()
    done = predict_to_file(request(models, scapes, tmp_path / "b", post=steps))
    np.testing.assert_allclose(read(done.output)[COLUMNS], values**2, atol=1e-6)
    stored = pd.read_parquet(done.windows_file)
    np.testing.assert_array_equal(stored[COLUMNS], values)  # as they were before
    card = build_card(3, known=[None, CLASSES[:2], None], weights=[1, 2, 0.5],
                      details={"postprocess": json.dumps(steps)})  # fmt: skip
    model = save_tiny_model(tmp_path / "m.onnx", card)
    by_card = predict_to_file(request(models, scapes, tmp_path / "c", model=model))
    np.testing.assert_array_equal(read(by_card.output), read(done.output))
    assert "post-processing of the rows: power" in str(by_card)
    without = predict_to_file(request(models, scapes, tmp_path / "d", model=model, post=()))
    np.testing.assert_array_equal(read(without.output), read(plain.output))
    assert without.steps == () and "post-processing" not in str(without)
    with pytest.raises(SpecError, match="smoothe"):
        predict_to_file(request(models, scapes, tmp_path, post=({"kind": "smoothe"},)))
    average = {"kind": "shift_average", "weights": "overlap"}
    with pytest.raises(SpecError, match="needs overlapping windows"):
        predict_to_file(request(models, scapes, tmp_path, post=(average,)))


def test_overlapping_windows_are_averaged_onto_the_rows(
    models: Path, scapes: Path, tmp_path: Path
) -> None:
    plain = predict_to_file(request(models, scapes, tmp_path / "a"))
    done = predict_to_file(request(models, scapes, tmp_path / "b", hop_s=0.5))
    stored = pd.read_parquet(done.windows_file)
    grid = stored[stored["end_s"] % 1 == 0].set_index("row_id")[COLUMNS]
    np.testing.assert_array_equal(grid.index, read(plain.output).index)
    np.testing.assert_allclose(grid, read(plain.output), atol=1e-6)
    files = pd.factorize(stored["file"])[0]
    average = {"kind": "shift_average", "weights": "overlap"}
    averaged = apply_steps(stored[COLUMNS], files, stored["end_s"], CLASSES, [average])
    expected = averaged[(stored["end_s"] % 1 == 0).to_numpy()]
    np.testing.assert_allclose(read(done.output), expected, atol=1e-6)
    steps = ({"kind": "power", "exponent": 0.5},)
    both = predict_to_file(request(models, scapes, tmp_path / "c", hop_s=0.5, post=steps))
    after = apply_steps(stored[COLUMNS], files, stored["end_s"], CLASSES, [*steps, average])
    expected = after[(stored["end_s"] % 1 == 0).to_numpy()]
    np.testing.assert_allclose(read(both.output), expected, atol=1e-6)
    with pytest.raises(PredictError, match="no whole part"):
        predict_to_file(request(models, scapes, tmp_path, hop_s=0.3))


# ---------------------------------------------------------------- broken off and gone on with

SCRIPT = """
import sys
from pathlib import Path
from birdlab.infer.deadline import Race, Timer
from birdlab.infer.job import describe_job, plan_course, plan_rows
from birdlab.infer.passes import Engine, ModelChoice
from birdlab.infer.predict import PredictRequest, predict_to_file
from birdlab.infer.progress import Progress
from birdlab.infer.reading import find_soundscapes
model, scapes, output, sessions, batch = sys.argv[1:]
predict_to_file(PredictRequest(
    Path(model), Path(scapes), Path(output), sessions=int(sessions), threads=1, batch=int(batch)
))
"""


@pytest.fixture(scope="module")
def many_scapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for i in range(12):
        write_noise(folder / f"site{i:02}_0500.wav", 20.0 + i / 3, i)
    (folder / "site05b_0500.wav").write_bytes(b"RIFF not really")
    return folder


@pytest.mark.parametrize(("sessions", "share"), [(1, 0.1), (2, 0.6)])
def test_a_killed_run_goes_on_to_the_same_bits(
    models: Path, many_scapes: Path, tmp_path: Path, sessions: int, share: float
) -> None:
    asked = request(
        models, many_scapes, tmp_path, model=models / "slow.onnx", sessions=sessions, batch=4
    )
    undisturbed = predict_to_file(replace(asked, output=tmp_path / "whole" / "submission.csv"))
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, asked.model, asked.soundscapes, asked.output,
         str(sessions), "4"],
        cwd=ROOT,
    )  # fmt: skip
    rows = asked.output.with_name("submission.work") / "member_1.f32"
    until = share * undisturbed.n_windows * 4 * len(COLUMNS)
    while not rows.exists() or rows.stat().st_size < until:
        assert child.poll() is None
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    check_submission(asked.output, undisturbed.n_rows)
    n_kept = min(p.stat().st_size for p in rows.parent.glob("*.f32")) // (4 * len(COLUMNS))
    assert 0 < n_kept < undisturbed.n_windows
    summary = predict_to_file(asked)
    assert summary.n_heard_now <= undisturbed.n_windows - n_kept + 4  # none twice but a torn batch
    for name in ("submission.csv", "submission.windows.parquet"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not rows.parent.exists()


def check_submission(path: Path, n_rows: int) -> pd.DataFrame:
    table = read(path)
    assert len(table) == n_rows
    assert list(table.columns) == COLUMNS
    assert ((table >= 0) & (table < 1)).all(axis=None)
    return table


def test_what_is_torn_is_heard_again(models: Path, scapes: Path, tmp_path: Path) -> None:
    """Files cut anywhere, or with other bytes in them, as after a power cut."""
    asked = request(models, scapes, tmp_path, keep=True, batch=4)
    predict_to_file(asked)
    work, csv = tmp_path / "submission.work", asked.output.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(25):
        files = [p for p in sorted(work.iterdir()) if p.suffix in (".f32", ".log", ".jsonl")]
        for path in rng.choice(files, rng.integers(1, 3), replace=False):
            content = bytearray(path.read_bytes())
            place = int(rng.integers(len(content)))
            if trial % 2 and path.suffix == ".f32":
                content[place] ^= 0x10
            else:
                del content[place:]
            path.write_bytes(content)
        asked.output.unlink()
        summary = predict_to_file(asked)
        assert summary.n_heard_now <= summary.n_windows
        assert asked.output.read_bytes() == csv


def test_another_model_file_or_setting_starts_anew(
    models: Path, scapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for file in sorted(scapes.glob("*.wav")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
        files.append(tmp_path / file.name)
    asked = request(models, scapes, tmp_path / "out", soundscapes=tuple(files), keep=True)
    assert predict_to_file(asked, stream=sys.stderr).n_heard_now == 46
    again = predict_to_file(asked, stream=sys.stderr)
    assert (again.n_heard_now, again.n_windows) == (0, 46)
    assert "going on: 46 windows were heard" in capsys.readouterr().err
    write_noise(files[2], 2.0, 9)
    for changed, what in (
        (asked, "files"),
        (replace(asked, batch=3), "batch"),
        (replace(asked, threads=2), "batch, threads"),
        (replace(asked, model=models / "power.onnx"), "model, threads"),
    ):
        summary = predict_to_file(changed, stream=sys.stderr)
        assert f"starting anew: {what} changed" in capsys.readouterr().err
        assert summary.n_heard_now == summary.n_windows == 47
        if what == "batch":
            assert predict_to_file(replace(asked, batch=3)).n_heard_now == 0


def test_two_runs_do_not_write_one_file(models: Path, scapes: Path, tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "submission.work").mkdir()
    with (tmp_path / "submission.work" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PredictError, match="another prediction"):
            predict_to_file(request(models, scapes, tmp_path))
    predict_to_file(request(models, scapes, tmp_path))


# ---------------------------------------------------------------- deadlines


def alone(model: Path, scapes: Path, member: int) -> np.ndarray:
    """What a member of the model says of all windows."""
    _, waves = windows_of(scapes, model)
    return OnnxPredictor(model, threads=1).member_probs(waves, [member])[0]


def test_a_long_deadline_changes_no_bit(models: Path, scapes: Path, tmp_path: Path) -> None:
    asked = request(models, scapes, tmp_path / "a", model=models / "slow.onnx")
    together = predict_to_file(asked)
    apart = predict_to_file(replace(asked, output=tmp_path / "b" / "x.csv", deadline_s=600))
    assert (tmp_path / "b" / "x.csv").read_bytes() == together.output.read_bytes()
    assert [end.member for end in apart.members] == [1, 0]  # the one of the highest weight first
    assert all(end.finished and end.n_windows == 46 for end in apart.members)


@pytest.mark.parametrize("name", ["slower", "timed"])
def test_a_slow_member_is_dropped_for_all_windows(
    models: Path, many_scapes: Path, tmp_path: Path, name: str
) -> None:
    """By its speed as it shows, though it comes first by its weight; or by what the card says."""
    asked = request(models, many_scapes, tmp_path, model=models / f"{name}.onnx", batch=2)
    summary = predict_to_file(replace(asked, deadline_s=6.0))
    assert summary.seconds < 8
    slow, fast = sorted(summary.members, key=lambda end: -end.member)
    assert fast.finished and not slow.finished
    assert (slow.n_windows == 0) == (name == "timed")
    assert "it would take" in slow.reason
    assert f"dropped after {slow.n_windows} windows" in str(summary)
    table = check_submission(summary.output, summary.n_rows)
    heard = table[~table.index.str.startswith("site05b")]
    np.testing.assert_allclose(heard, alone(asked.model, many_scapes, 0), atol=1e-6)


def test_waiting_for_the_first_file_is_not_taken_for_slowness(
    models: Path, scapes: Path, tmp_path: Path
) -> None:
    """Each member waits 3 s for its first batch, and takes .01 s a window from then on."""
    asked = request(models, scapes, tmp_path, model=models / "slow.onnx")
    engine = Engine(ModelChoice(asked.model), 1, 1)
    card, files = engine.predictor.card, find_soundscapes(scapes)
    course = plan_course(files, card.windowing, hop_s=None, batch=8, readers=1, refuse_bad=False)
    plan = plan_rows(course, card.classes, None, "files", "fail")
    said = describe_job("0" * 64, engine.predictor, plan)
    store = WorkStore(tmp_path / "s.work", said, len(card.members))

    def clock() -> float:
        heard = [rows.n_rows for rows in store.members]
        return sum(3 * (n > 0) + 0.01 * n for n in heard)

    race = Race(plan, engine, store, card, Timer(12, 0.0, clock=clock), Progress(None))
    ends = race.run(lambda members: 0.0)
    store.close(), engine.close()
    assert [(end.finished, end.n_windows) for end in ends] == [(True, 46), (True, 46)]


def test_if_no_member_can_finish_the_rest_is_the_mean(
    models: Path, many_scapes: Path, tmp_path: Path
) -> None:
    card = build_card(2, weights=[1, 2], details={"prior": "[0, 0, 0, 0]"})
    model = save_tiny_model(tmp_path / "both.onnx", card, [1200, 900])
    asked = request(models, many_scapes, tmp_path, model=model, batch=2, deadline_s=2.5)
    summary = predict_to_file(asked)
    assert summary.seconds < 4
    assert not any(end.finished for end in summary.members)
    assert "no member heard every window in time" in str(summary)
    table = check_submission(summary.output, summary.n_rows)
    n = summary.n_windows
    assert 0 < n < len(table)
    readable = table[~table.index.str.startswith("site05b")]
    mean, rest = readable.iloc[:n].mean(axis=0), readable.iloc[n:]
    np.testing.assert_allclose(rest, np.tile(mean, (len(rest), 1)), atol=1e-6)
    assert sum(summary.filled.values()) + sum(b.n_rows for b in summary.bad_files) == len(table) - n
    predict_to_file(replace(asked, deadline_s=0.001))  # nothing at all can be heard
    assert (check_submission(summary.output, summary.n_rows) == 0).all(axis=None)


def test_the_submission_is_whole_at_every_moment(
    models: Path, many_scapes: Path, tmp_path: Path
) -> None:
    asked = request(models, many_scapes, tmp_path, model=models / "slow.onnx", deadline_s=60)
    seen, over = [], threading.Event()

    def look() -> None:
        while not over.is_set():
            if asked.output.exists():
                seen.append(check_submission(asked.output, n_rows))
            time.sleep(0.005)

    n_rows = predict_to_file(
        replace(asked, output=tmp_path / "a" / "s.csv", deadline_s=None)
    ).n_rows
    looking = threading.Thread(target=look)
    looking.start()
    predict_to_file(asked)
    over.set()
    looking.join()
    kinds = {table.to_numpy().tobytes() for table in seen}
    assert len(seen) > 5
    assert (seen[0] == 0).all(axis=None)
    assert 2 <= len(kinds) <= 3  # zeros, the first member, both


# ---------------------------------------------------------------- rows that do not fit


@pytest.fixture
def sample(models: Path, scapes: Path, tmp_path: Path) -> Path:
    """A sample submission in another order of rows and columns."""
    ids, _ = windows_of(scapes, models / "mean.onnx")
    table = pd.DataFrame({"row_id": ids[::-1]} | dict.fromkeys(COLUMNS[::-1], 0.5))
    table.to_csv(tmp_path / "sample.csv", index=False)
    return tmp_path / "sample.csv"


def test_rows_and_columns_follow_the_sample(
    models: Path, scapes: Path, tmp_path: Path, sample: Path
) -> None:
    plain = read(predict_to_file(request(models, scapes, tmp_path / "a")).output)
    done = predict_to_file(request(models, scapes, tmp_path / "b", sample=sample))
    first = done.output.read_text().splitlines()[0]
    assert first == "row_id,wren,ädler,1234,zebfin"
    table = read(done.output)
    assert list(table.index) == list(plain.index)[::-1]
    np.testing.assert_array_equal(table[COLUMNS], plain.iloc[::-1][COLUMNS])


def test_rows_without_a_file_are_refused_before_anything_is_heard(
    models: Path, scapes: Path, tmp_path: Path, sample: Path
) -> None:
    text = sample.read_text().replace("site1_0500_1", "nowhere_5")
    sample.write_text(text)
    asked = request(models, scapes, tmp_path / "out", sample=sample)
    with pytest.raises(PredictError, match=r"1 missing \(nowhere_5\); 1 too many \(site1_0500_1\)"):
        predict_to_file(asked)
    assert not (tmp_path / "out").exists()
    plain = read(predict_to_file(request(models, scapes, tmp_path / "a")).output)
    kept = plain.drop(index="site1_0500_1")
    for policy, expected in (("zeros", np.zeros(4)), ("prior", kept.mean(axis=0))):
        summary = predict_to_file(replace(asked, missing=policy))
        table = read(summary.output)[COLUMNS]
        assert len(table) == 46
        np.testing.assert_allclose(table.loc["nowhere_5"], expected, atol=1e-6)
        np.testing.assert_array_equal(table.drop(index="nowhere_5").loc[kept.index], kept)
        assert summary.filled == {"nowhere": 1}
        assert summary.dropped_files == ("site1_0500.wav",)
        assert "left out: site1_0500.wav" in str(summary)


def test_no_row_of_the_sample_has_a_file(models: Path, scapes: Path, tmp_path: Path) -> None:
    sample = tmp_path / "sample.csv"
    sample.write_text("row_id,wren,ädler,zebfin,1234\nelsewhere_5,0.1,0.1,0.1,0.1\n")
    asked = request(models, scapes, tmp_path, sample=sample, missing="prior")
    (tmp_path / "submission.windows.parquet").mkdir()  # so that it cannot be written
    summary = predict_to_file(asked)
    assert (summary.n_rows, summary.n_windows, len(summary.dropped_files)) == (1, 0, 6)
    assert (read(summary.output) == 0).all(axis=None)
    assert summary.windows_file is None
    assert ["not written" in warning for warning in summary.warnings] == [True]


def test_of_the_sample_only_the_columns_may_count(
    models: Path, scapes: Path, tmp_path: Path
) -> None:
    sample = tmp_path / "sample.csv"
    sample.write_text("row_id,wren,ädler,zebfin,1234\nsoundscape_5,0.1,0.1,0.1,0.1\n")
    summary = predict_to_file(request(models, scapes, tmp_path, sample=sample, rows="files"))
    assert (summary.n_rows, summary.filled) == (46, {})
    assert summary.output.read_text().startswith("row_id,wren,ädler,zebfin,1234\n")
    sample.write_text("row_id,wren,ädler,zebfin,other\nsoundscape_5,0.1,0.1,0.1,0.1\n")
    with pytest.raises(PredictError, match="columns are not those"):
        predict_to_file(request(models, scapes, tmp_path, sample=sample, rows="files"))


def test_an_empty_folder_gives_the_sample_as_it_is(
    models: Path, tmp_path: Path, sample: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").write_text("none yet")
    asked = request(models, tmp_path / "empty", tmp_path / "out", sample=sample)
    summary = predict_to_file(asked)
    assert summary.output.read_bytes() == sample.read_bytes()
    assert (summary.n_files, summary.n_rows) == (0, 46)
    assert "there are no soundscapes" in str(summary)
    with pytest.raises(PredictError, match="no soundscapes"):
        predict_to_file(replace(asked, sample=None))


@pytest.fixture
def damaged(scapes: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in scapes.glob("*.wav"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "site2b_0500.wav").write_bytes(b"RIFF not really")
    cut = (folder / "site5_0500.wav").read_bytes()
    (folder / "site5_0500.wav").write_bytes(cut[: len(cut) // 2])  # its header still opens
    return folder


@pytest.mark.parametrize("policy", ["prior", "zeros"])
def test_files_that_cannot_be_decoded_are_filled_and_listed(
    models: Path, damaged: Path, tmp_path: Path, policy: str
) -> None:
    prior = [0.25, 0.5, 0.0, 0.125]
    card = build_card(3, details={"prior": json.dumps(prior)})
    model = save_tiny_model(tmp_path / "m.onnx", card)
    summary = predict_to_file(request(models, damaged, tmp_path, model=model, on_bad_file=policy))
    assert [bad.name for bad in summary.bad_files] == ["site2b_0500.wav", "site5_0500.wav"]
    table = read(summary.output)[COLUMNS]
    for bad in summary.bad_files:
        rows = table[table.index.str.startswith(bad.name.removesuffix(".wav") + "_")]
        assert len(rows) == bad.n_rows > 0
        expected = prior if policy == "prior" else np.zeros(4)
        np.testing.assert_array_equal(rows, np.tile(np.float32(expected), (len(rows), 1)))
    assert summary.n_windows == 26
    assert "not decoded, 1 rows made up: site2b_0500.wav" in str(summary)
    with pytest.raises(PredictError, match=r"site2b_0500\.wav"):
        predict_to_file(request(models, damaged, tmp_path / "f", model=model, on_bad_file="fail"))


def test_not_one_file_can_be_decoded(models: Path, tmp_path: Path) -> None:
    (tmp_path / "a_1.wav").write_bytes(b"")
    (tmp_path / "b_1.wav").write_bytes(b"RIFF")
    summary = predict_to_file(request(models, tmp_path, tmp_path / "out"))
    assert list(read(summary.output).index) == ["a_1_1", "b_1_1"]
    assert "no soundscape could be decoded" in str(summary)


def test_a_file_that_goes_bad_between_two_runs_is_filled(
    models: Path, scapes: Path, tmp_path: Path
) -> None:
    """Same size and date, so the run goes on; what was heard of it before does not count."""
    files = []
    for file in sorted(scapes.glob("*.wav")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
        files.append(tmp_path / file.name)
    asked = request(models, scapes, tmp_path / "out", soundscapes=tuple(files), keep=True, batch=4)
    plain = predict_to_file(asked)
    before = read(plain.output)
    for rows in (tmp_path / "out" / "submission.work").glob("*.log"):
        rows.write_bytes(rows.read_bytes()[: 8 * 4])  # 16 windows were heard: 4 of site3
    stat = files[3].stat()
    files[3].write_bytes(b"\0" * stat.st_size)
    os.utime(files[3], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    summary = predict_to_file(asked)
    assert summary.bad_files[0].name == "site3_0500.wav"
    table = read(summary.output)
    good = ~table.index.str.startswith("site3")
    np.testing.assert_allclose(table[good], before[good], atol=1e-6)
    np.testing.assert_allclose(table[~good], np.tile(table[good].mean(axis=0), (12, 1)), atol=1e-6)


@pytest.mark.parametrize(
    "change", [{"missing": "skip"}, {"on_bad_file": "skip"}, {"rows": "x"}, {"deadline_s": 0.0}]
)
def test_requests_that_make_no_sense_are_refused(
    models: Path, scapes: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    with pytest.raises(PredictError, match=next(iter(change))):
        request(models, scapes, tmp_path, **change)


# ---------------------------------------------------------------- places that do not take it


def test_files_of_others_in_the_work_folder_are_left_alone(
    models: Path, scapes: Path, tmp_path: Path
) -> None:
    work = tmp_path / "submission.work"
    (work / "figures").mkdir(parents=True)
    (work / "manifest.json").write_text("{}")
    (work / "notes.txt").write_text("a year of work")
    with pytest.raises(PredictError, match=r"holds other files[^$]*figures, notes\.txt"):
        predict_to_file(request(models, scapes, tmp_path))
    assert sorted(path.name for path in work.iterdir()) == ["figures", "manifest.json", "notes.txt"]
    assert not (tmp_path / "submission.csv").exists()


@pytest.mark.parametrize("text", ["[1]", "null", "{", "", "[" * 100_000])
def test_a_damaged_manifest_starts_anew(
    models: Path, scapes: Path, tmp_path: Path, text: str
) -> None:
    work = tmp_path / "submission.work"
    work.mkdir()
    (work / "manifest.json").write_text(text)
    (work / "files.jsonl").write_text('{"place": "a", "n_windows": "b", "reason": null}\n')
    assert predict_to_file(request(models, scapes, tmp_path)).n_heard_now == 46
    assert not work.exists()


@pytest.mark.parametrize(
    "said", ['"a", "n_windows": "b"', '0, "n_windows": -5', '-1, "n_windows": 1']
)
def test_lines_of_known_files_that_say_nothing_are_heard_again(
    models: Path, scapes: Path, tmp_path: Path, said: str
) -> None:
    asked = request(models, scapes, tmp_path, keep=True)
    predict_to_file(asked)
    known = tmp_path / "submission.work" / "files.jsonl"
    known.write_text(f'{{"place": {said}, "reason": null}}\n')
    assert predict_to_file(asked).n_heard_now == 46


def test_an_output_that_cannot_be_written_is_said(
    models: Path, scapes: Path, tmp_path: Path, sample: Path
) -> None:
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(PredictError, match=r"cannot be written[^$]*taken\.csv"):
        predict_to_file(request(models, scapes, tmp_path, output=tmp_path / "taken.csv"))
    assert [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")] == []
    (tmp_path / "file").write_text("")
    inside = request(models, scapes, tmp_path, output=tmp_path / "file" / "s.csv")
    with pytest.raises(PredictError, match="cannot be kept"):
        predict_to_file(inside)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PredictError, match="cannot be written"):
        predict_to_file(replace(inside, soundscapes=tmp_path / "empty", sample=sample))
    with pytest.raises(PredictError, match="is a file"):
        predict_to_file(request(models, tmp_path / "file", tmp_path))
    odd = tmp_path / os.fsdecode(b"\xff.wav")
    with pytest.raises(PredictError, match="not UTF-8"):
        predict_to_file(request(models, scapes, tmp_path, soundscapes=(odd,)))


def test_a_run_that_goes_on_refuses_what_the_first_one_filled(
    models: Path, damaged: Path, tmp_path: Path
) -> None:
    asked = request(models, damaged, tmp_path / "out", keep=True)
    predict_to_file(asked)
    before = asked.output.read_bytes()
    with pytest.raises(PredictError, match=r"cannot be decoded[^$]*site2b_0500\.wav"):
        predict_to_file(replace(asked, on_bad_file="fail"))
    assert asked.output.read_bytes() == before


def test_what_a_member_hears_later_counts_as_heard_now(
    models: Path, scapes: Path, tmp_path: Path
) -> None:
    asked = request(models, scapes, tmp_path, keep=True)
    predict_to_file(asked)
    for ending in ("f32", "log"):  # as after a run in which the third member did not come so far
        (tmp_path / "submission.work" / f"member_2.{ending}").write_bytes(b"")
    assert predict_to_file(asked).n_heard_now == 46
    again = predict_to_file(replace(asked, deadline_s=60))
    assert again.n_heard_now == 0
    assert "member tiny0 (tiny): all windows, in an earlier run" in str(again)


def test_a_sample_with_a_comma_too_many_is_not_misread(
    models: Path, scapes: Path, tmp_path: Path, sample: Path
) -> None:
    head, *rows = sample.read_text().splitlines()
    sample.write_text("\n".join([head, *(f"{row}," for row in rows)]))
    with pytest.raises(PredictError, match="more fields than its first line"):
        predict_to_file(request(models, scapes, tmp_path, sample=sample))


def test_the_single_file_says_how_far_it_is(
    models: Path, scapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from birdlab.infer.__main__ import main

    command = ["predict", str(scapes), "-o", str(tmp_path / "s.csv"), "--keep"]
    command += ["--model", str(models / "mean.onnx")]
    assert main(command) == 0
    assert main(command) == 0
    assert "going on: 46 windows were heard" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["predict", str(scapes), "-o", str(tmp_path / "file" / "s.csv"), *command[4:]]) == 1
    assert "error: the probabilities cannot be kept" in capsys.readouterr().err


def test_ctrl_c_ends_the_single_file_in_words(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from birdlab.infer.__main__ import main

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        assert main(["benchmark", "--model", str(models / "mean.onnx"), "--seconds", "60"]) == 130
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert capsys.readouterr().err.endswith("stopped: a prediction goes on with the same command\n")

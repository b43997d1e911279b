"""Window truth, no-call background, and scores on soundscapes with labels in time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from commandline import run_main
from conftest import TINY_DEMO, MakeLab
from hypothesis import given
from hypothesis import strategies as st
from test_infer import RATE, save_energy_model

from birdlab.data.classes import ClassList
from birdlab.data.demo import build_demo
from birdlab.data.nocall import busy_windows, free_stretches, quiet_windows, unlabelled_windows
from birdlab.data.sources import load_source_noise
from birdlab.data.windows_truth import (
    count_cover,
    name_windows,
    read_lacking_durations,
    window_targets,
)
from birdlab.errors import AudioError, DataError
from birdlab.evaluate.windows import end_seconds
from birdlab.heldout import score_soundscapes
from birdlab.infer.card import ModelCard
from birdlab.infer.models import MODEL_FILE
from birdlab.lab import Lab, open_lab
from birdlab.plan import open_dataset, plan_experiment
from birdlab.spec import load_spec

Cli = Callable[..., tuple[int, str, str]]

CLASSES = ClassList(("wren", "12", "kite"))
FILES = ("a.ogg", "sub/b.flac", "c")
ticks = st.integers(min_value=-8, max_value=120)
"""Times are quarters of a second here, so that sums are exact."""


@st.composite
def spans(draw: st.DrawFn) -> pd.DataFrame:
    """Labels of up to 30 s in three files, one of which is no soundscape here."""
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        start, length = draw(ticks), draw(st.integers(1, 60))
        label = draw(st.sampled_from([*CLASSES, "frog"]))
        rows.append((draw(st.sampled_from(FILES)), start / 4, (start + length) / 4, label))
    return pd.DataFrame(rows, columns=["filename", "start_s", "end_s", "label"])


soundscape_tables = st.lists(st.integers(1, 130), min_size=1, max_size=2).map(
    lambda n: pd.DataFrame({"filename": FILES[: len(n)], "duration_s": [i / 4 for i in n]})
)


# ---------------------------------------------------------------- window truth


@given(spans(), soundscape_tables, st.sampled_from([1.0, 2.5, 5.0]), st.sampled_from([0.0, 0.3, 1]))
def test_targets_equal_brute_force(
    labels: pd.DataFrame, soundscapes: pd.DataFrame, window_s: float, min_overlap_s: float
) -> None:
    """Every window against every label, one pair at a time."""
    expected: dict[str, list[float]] = {}
    for name, duration_s in soundscapes.itertuples(index=False):
        for i in range(int(-(-duration_s // window_s))):
            marks = dict.fromkeys(CLASSES, 0.0)
            for label in labels[labels["filename"] == name].itertuples():
                start_s, end_s = max(label.start_s, 0), min(label.end_s, duration_s)
                shared_s = min(end_s, (i + 1) * window_s) - max(start_s, i * window_s)
                enough = shared_s > min_overlap_s or 2 * shared_s >= end_s - start_s
                if label.label in marks and shared_s > 0 and enough:
                    marks[label.label] = 1.0
            expected[f"{Path(name).stem} {i}"] = list(marks.values())
    got = window_targets(labels, soundscapes, CLASSES, window_s, min_overlap_s=min_overlap_s)
    assert list(got.columns) == ["row_id", *CLASSES]
    stems = [row_id.split("_")[0] for row_id in got["row_id"]]
    assert stems == [key.split()[0] for key in expected]
    assert got[list(CLASSES)].to_numpy().tolist() == list(expected.values())
    assert set(got.dtypes.iloc[1:]) == {np.dtype(np.float32)}


def label_rows(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["filename", "start_s", "end_s", "label"])


ONE = pd.DataFrame({"filename": ["a.ogg"], "duration_s": [12.0]})


@pytest.mark.parametrize(
    ("start_s", "end_s", "marked"),
    [
        (0.0, 5.0, [1, 0, 0]),  # ends where the next window starts
        (4.95, 6.0, [0, 1, 0]),  # 0.05 s of it are too little
        (4.8, 6.0, [1, 1, 0]),
        (4.96, 5.06, [0, 1, 0]),  # too short for 0.1 s, but most of it
        (2.0, 2.02, [1, 0, 0]),
        (11.0, 99.0, [0, 0, 1]),  # reaches beyond the end
        (12.5, 13.0, [0, 0, 0]),  # lies beyond the end
        (-3.0, 0.5, [1, 0, 0]),
    ],
)
def test_a_label_marks_the_windows_that_hold_enough_of_it(
    start_s: float, end_s: float, marked: list[int]
) -> None:
    table = window_targets(label_rows(("a.ogg", start_s, end_s, "12")), ONE, CLASSES, 5.0)
    assert table["row_id"].tolist() == ["a_5", "a_10", "a_15"]
    assert table["12"].tolist() == marked
    assert not table[["wren", "kite"]].to_numpy().any()


def test_windows_are_counted_and_named_as_in_a_submission() -> None:
    assert count_cover([0.01, 5.0, 5.01, 15.0000000001, 600], 5.0).tolist() == [1, 1, 2, 3, 120]
    assert name_windows("site/a_0500.x.ogg", 2, 5.0) == ["a_0500.x_5", "a_0500.x_10"]
    for n, window_s in ((1, 2.5), (3, 2.5), (3, 0.1), (4, 5.0), (1, 0.5)):
        named = [f"a_{end}" for end in end_seconds(n, window_s)]
        assert name_windows("a.ogg", n, window_s) == named, "as a prediction names them"
    shared = pd.DataFrame({"filename": ["x/a.ogg", "y/a.wav"], "duration_s": [5.0, 5.0]})
    with pytest.raises(DataError, match="row ids are the same"):
        window_targets(label_rows(), shared, CLASSES, 5.0)


@pytest.mark.parametrize("times", [(3.0, 3.0), (4.0, 3.0), (np.nan, 3.0), (0.0, np.inf)])
def test_labels_without_a_length_are_listed(times: tuple[float, float]) -> None:
    labels = label_rows(("a.ogg", 1.0, 2.0, "12"), ("a.ogg", *times, "12"))
    with pytest.raises(DataError, match="1 labels have no time") as error:
        window_targets(labels, ONE, CLASSES, 5.0)
    assert str(times[0]) in str(error.value.got)
    with pytest.raises(DataError, match="1 labels have no time"):
        free_stretches(labels, ONE, margin_s=0, min_s=1)


def test_durations_come_from_the_table_else_from_the_header(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "b.wav", np.zeros(RATE * 3), RATE)
    paths = [str(tmp_path / name) for name in ("a.wav", "b.wav")]
    table = pd.DataFrame({"path": paths, "duration_s": [7.0, np.nan]})
    assert read_lacking_durations(table)["duration_s"].tolist() == [7.0, 3.0]
    assert table["duration_s"].isna().any(), "the table itself stays as it was"
    with pytest.raises(AudioError, match="no such file"):
        read_lacking_durations(table.assign(duration_s=np.nan))


# ---------------------------------------------------------------- free stretches


@given(
    spans(),
    soundscape_tables,
    st.sampled_from([0.0, 0.25, 0.5, 2.0]),
    st.sampled_from([0.25, 1.0, 5.0]),
)
def test_stretches_equal_brute_force(
    labels: pd.DataFrame, soundscapes: pd.DataFrame, margin_s: float, min_s: float
) -> None:
    """Each quarter of a second is asked alone; runs of free ones are the stretches."""
    expected = []
    for name, duration_s in soundscapes.itertuples(index=False):
        here = labels[labels["filename"] == name]
        run: list[float] = []
        for t in [*np.arange(0, duration_s, 0.25), None]:
            middle = None if t is None else t + 0.125
            free = middle is not None and not any(
                row.start_s - margin_s < middle < row.end_s + margin_s for row in here.itertuples()
            )
            if free:
                run.append(t)
                continue
            if run and run[-1] + 0.25 - run[0] >= min_s:
                expected.append((name, run[0], run[-1] + 0.25))
            run = []
    got = free_stretches(labels, soundscapes, margin_s=margin_s, min_s=min_s)
    assert list(got.itertuples(index=False, name=None)) == expected
    assert list(got.dtypes.iloc[1:]) == [np.float64, np.float64]


def test_a_window_that_nothing_is_known_of_is_busy() -> None:
    scores = pd.DataFrame(
        {"row_id": ["a_5", "a_10", "a_20"], "wren": [0.0, 0.0, 0.05], "kite": [0.0, 0.1, 0.0]}
    )
    soundscapes = pd.DataFrame({"filename": ["a.ogg"], "duration_s": [22.0]})
    assert unlabelled_windows(scores) == ["a_5"]
    assert quiet_windows(scores, 0.1) == ["a_5", "a_20"]
    assert quiet_windows(scores, 0.2) == ["a_5", "a_10", "a_20"]
    busy = busy_windows(["a_5", "a_10", "a_20"], soundscapes, 5.0)
    assert busy["start_s"].tolist() == [10.0, 20.0]
    found = free_stretches(busy, soundscapes, margin_s=0, min_s=1)
    assert found[["start_s", "end_s"]].to_numpy().tolist() == [[0, 10], [15, 20]]
    with pytest.raises(DataError, match="do not fit the soundscapes"):
        busy_windows(["b_5"], soundscapes, 5.0)
    with pytest.raises(DataError, match="listed twice"):
        free_stretches(busy, pd.concat([soundscapes, soundscapes]), margin_s=0, min_s=1)


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo with soundscapes of a minute, long enough for windows without a song."""
    settings = replace(
        TINY_DEMO, n_recordings=4, rarest=1, n_recordists=2, n_backgrounds=0,
        n_soundscapes=3, soundscape_s=60,
    )  # fmt: skip
    return build_demo(tmp_path_factory.mktemp("minutes") / "minutes", settings, jobs=1)


@pytest.fixture
def lab(make_lab: MakeLab, minutes: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    root = make_lab(decoded=False).root
    with (root / "birdlab.toml").open("a") as file:
        file.write(f'minutes = "{minutes}"\n')
    lab = open_lab(root)
    monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
    return lab


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line in this process: exit code, what it printed, what it complained of."""

    def call(*args: str) -> tuple[int, str, str]:
        return run_main(capsys, monkeypatch, *args)

    return call


def printed_entry(out: str) -> str:
    """The lines of the answer that belong into birdlab.toml."""
    lines = out.partition("add to birdlab.toml:\n")[2].partition("use it in a spec:")[0]
    return "\n".join(line.strip() for line in lines.splitlines())


def test_noise_from_window_labels_is_what_no_class_is_in(cli: Cli, lab: Lab) -> None:
    data = open_dataset(lab, "minutes")
    truth = data.soundscape_labels.set_index("row_id")
    free = set(truth.index[(truth == 0).all(axis=1)])
    assert 0 < len(free) < len(truth), "the demo has windows of both sorts"
    code, out, err = cli("data", "nocall", "minutes", "--out", "quiet", "--margin-s", "0")
    assert code == 0, err
    table = pd.read_csv(lab.root / "tables" / "quiet.csv")
    assert list(table.columns) == ["filename", "start_s", "end_s"]
    covered = {
        f"{Path(row.filename).stem}_{int(end)}"
        for row in table.itertuples()
        for end in np.arange(row.start_s + 5, row.end_s + 1, 5)
    }
    assert covered == free
    assert f"{len(table)} stretches of 5 s or more" in out
    assert f"{5 * len(free) / 60:.1f} of" in out
    with (lab.root / "birdlab.toml").open("a") as file:
        file.write(printed_entry(out))
    again = open_lab(lab.root)
    clips = load_source_noise(
        again.source("quiet"), "quiet", again.dataset_root("quiet"), again.root
    )
    rows = sorted(table.itertuples(index=False, name=None))
    assert [(c.path.name, c.start_s, c.end_s) for c in clips] == rows
    assert all(clip.path.is_file() for clip in clips)
    assert "add to birdlab.toml" not in cli("data", "nocall", "minutes", "--out", "quiet")[1]


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["minutes", "--out", "../quiet"], "not the name of a data set"),
        (["minutes", "--out", "abroad"], "name of another data set"),
        (["minutes", "--out", "demo"], "name of another data set"),
        (["nowhere", "--out", "quiet"], "knows no data set"),
        (["minutes", "--out", "quiet", "--model", "@champion"], "no promoted model"),
        (["minutes", "--out", "quiet", "--window-s", "7"], "do not fit the soundscapes"),
        (["minutes", "--out", "quiet", "--on-bad-file", "zeros"], "unknown value"),
        (["mute", "--out", "quiet"], "no labelled soundscapes"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    cli: Cli, lab: Lab, args: list[str], part: str
) -> None:
    (lab.root / "mute").mkdir()
    soundfile.write(lab.root / "mute" / "a.wav", np.zeros(800), RATE)
    with (lab.root / "birdlab.toml").open("a") as file:
        file.write('mute = "mute"\n')
    code, out, err = cli("data", "nocall", *args)
    assert code == 1
    assert err.startswith("error: ") and part in err
    assert "Traceback" not in out + err
    assert not (lab.root / "tables").exists()


def test_nothing_is_written_when_nothing_is_free(cli: Cli, lab: Lab) -> None:
    code, out, _ = cli("data", "nocall", "minutes", "--out", "quiet", "--min-s", "59")
    assert (code, (lab.root / "tables").exists()) == (1, False)
    assert "nothing was written" in out
    assert "0 stretches of 59 s or more" in out


def write_meadow(folder: Path) -> None:
    """Soundscapes of which the energy model finds every window quiet but those with a whistle."""
    clicks = np.zeros(RATE * 4)
    clicks[100 :: RATE // 2] = 0.9  # peak-normalised, a click in silence has no energy
    whistle = np.sin(2 * np.pi * 1000 * np.arange(RATE * 4) / RATE)
    sung = clicks.copy()
    sung[RATE : 2 * RATE] = whistle[:RATE]
    (folder / "day").mkdir(parents=True)
    soundfile.write(folder / "day" / "quiet.wav", clicks, RATE)
    soundfile.write(folder / "day" / "sung.wav", sung, RATE)
    soundfile.write(folder / "loud.wav", whistle, RATE)


def test_noise_from_a_models_scores(cli: Cli, lab: Lab) -> None:
    write_meadow(lab.root / "meadow")
    with (lab.root / "birdlab.toml").open("a") as file:
        file.write('meadow = "meadow"\n')
    (lab.models / "energy").mkdir(parents=True)
    save_energy_model(lab.models / "energy" / MODEL_FILE, ModelCard(("a", "b", "c"), RATE, 0.5))
    (lab.models / "aliases.json").write_text(json.dumps({"champion": "energy"}))
    args = ("data", "nocall", "meadow", "--model", "@champion", "--below", "0.6")
    args += ("--out", "still", "--min-s", "0.5", "--margin-s", "0.25")
    code, out, err = cli(*args)
    assert code == 0, err
    table = pd.read_csv(lab.root / "tables" / "still.csv")
    expected = [("day/quiet.wav", 0, 4), ("day/sung.wav", 0, 0.75), ("day/sung.wav", 2.25, 4)]
    assert list(table.itertuples(index=False, name=None)) == expected
    assert 'path = "meadow"' in out and "1 soundscapes are free" in out
    (lab.root / "meadow" / "torn.wav").write_bytes(b"RIFF")
    code, _, err = cli(*args)
    assert code == 1 and "torn.wav" in err
    code, _, err = cli(*args, "--on-bad-file", "skip")
    assert code == 0 and "skipped torn.wav" in err
    assert pd.read_csv(lab.root / "tables" / "still.csv").equals(table)


# ---------------------------------------------------------------- scores


def write_annotated(root: Path, demo: Path) -> None:
    """The demo's public soundscapes, their window labels written as labels in time, and a frog."""
    scapes = pd.read_csv(demo / "soundscapes.csv").query("split == 'public'")
    truth = pd.read_csv(demo / "soundscape_labels.csv").set_index("row_id")
    (root / "audio").mkdir(parents=True)
    rows = [(scapes["filename"].iloc[0], 1.0, 2.0, "frog")]
    for name, duration_s in zip(scapes["filename"], scapes["duration_s"], strict=True):
        shutil.copy(demo / "soundscapes" / name, root / "audio" / name)
        for end in range(5, int(duration_s) + 1, 5):
            marked = truth.loc[f"{Path(name).stem}_{end}"]
            rows += [(name, end - 4.0, end - 0.5, code) for code in marked.index[marked > 0]]
    table = pd.DataFrame(rows, columns=["filename", "start_s", "end_s", "label"])
    table.to_csv(root / "annotations.csv", index=False)


def test_labels_in_time_score_as_the_window_labels_they_are(
    make_lab: MakeLab, tiny_demo: Path
) -> None:
    root = make_lab(trained=True).root
    write_annotated(root / "field", tiny_demo)
    with (root / "birdlab.toml").open("a") as file:
        file.write('[data.field]\nkind = "soundscapes"\npath = "field"\naudio = "audio"\n')
        file.write('annotations = "annotations.csv"\n')
    lab = open_lab(root)
    own, _ = score_soundscapes(plan_experiment(load_spec(root / "tiny.yaml"), lab), lab)
    both = load_spec(root / "tiny.yaml", {"data.soundscapes": ["field", "tiny"]})
    plan = plan_experiment(both, lab)
    scores = score_soundscapes(plan, lab)
    assert [s.name for s in scores] == ["field public", "public", "private"]
    assert scores[1] == own
    field = scores[0]
    assert field.score == own.score and field.floor == own.floor
    assert (field.n_windows, field.n_files) == (own.n_windows, own.n_files)
    assert (dict(field.unknown), dict(own.unknown)) == ({"frog": 1}, {})
    file = next((root / "field" / "audio").iterdir()).name
    table = f"filename,start_s,end_s,label\n{file},1,2,frog\n"
    (root / "field" / "annotations.csv").write_text(table)
    with pytest.raises(DataError, match="no label of the soundscapes of field is a class"):
        score_soundscapes(plan, lab)
    with pytest.raises(DataError, match="abroad"):
        other = load_spec(root / "tiny.yaml", {"data.soundscapes": ["tiny", "abroad"]})
        score_soundscapes(plan_experiment(other, lab), lab)


def test_two_data_sets_are_entered_apart(
    cli: Cli, make_lab: MakeLab, tiny_demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(trained=True, mlflow=True)
    monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
    code, out, err = cli("lb", "score", "-1", "--on", "tiny-again")
    assert code == 0, err
    assert "tiny-again public padded_cmap" in out
    (row,) = json.loads(cli("lb", "list", "--json")[1])
    assert 0 < row["tiny_again_public"] <= 1
    assert row["public"] is None and row["private"] is None

"""Stored outputs and the scores that are recomputed from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from birdlab.data.audio import Waveform
from birdlab.errors import OutputsError
from birdlab.evaluate.outputs import StoredOutputs, load_outputs, save_outputs
from birdlab.evaluate.predictor import Floats, WindowOutputs, predict_recordings
from birdlab.evaluate.score import (
    FoldTable,
    deployed_windows,
    fold_table,
    score_classes,
    score_fold,
    score_run,
    score_soundscape_windows,
    score_soundscapes,
)
from birdlab.evaluate.windows import Windowing
from birdlab.spec.parts import EvaluateSpec, OutputSpec

CODES = ("a", "b", "264")


def make(seed: int = 0, n: int = 5) -> StoredOutputs:
    """Outputs of `n` recordings with 1 to 4 windows each."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5, n)
    index = np.repeat(np.arange(n), counts)
    names = tuple(f"{i}/x é.ogg" for i in range(n))
    windows = WindowOutputs(
        names,
        CODES,
        index,
        np.concatenate([5.0 * np.arange(1, k + 1) for k in counts]),
        rng.random((len(index), 3), np.float32),
        rng.random((len(index), 3), np.float32),
    )
    labels = pd.DataFrame(
        {
            "recording": names,
            "primary_label": [CODES[i % 3] for i in range(n)],
            "secondary_labels": [(), ("a", "264"), ("elsewhere",), (), ("b",)][:n],
        }
    )
    return StoredOutputs(windows, labels)


def test_outputs_come_back_bit_by_bit(tmp_path: Path) -> None:
    stored = make()
    save_outputs(tmp_path / "deep" / "o", stored)
    back = load_outputs(tmp_path / "deep" / "o")
    for field in ("recording_index", "end_s", "clip_probs", "time_max"):
        one, two = getattr(stored.windows, field), getattr(back.windows, field)
        assert np.array_equal(one, two)
        assert one.dtype == two.dtype
    assert back.windows.recordings == stored.windows.recordings
    assert back.windows.codes == back.classes.codes == CODES
    pd.testing.assert_frame_equal(back.labels, stored.labels)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["o"], "nothing half-written stays"
    column = pq.read_schema(tmp_path / "deep" / "o" / "windows.parquet").field("P").type
    assert str(column.value_type) == "float"


def test_a_second_write_replaces_the_first_whole(tmp_path: Path) -> None:
    save_outputs(tmp_path / "o", make(0))
    save_outputs(tmp_path / "o", make(1, 3))
    assert load_outputs(tmp_path / "o").windows.recordings == make(1, 3).windows.recordings


def test_outputs_that_are_missing_or_torn_are_named(tmp_path: Path) -> None:
    with pytest.raises(OutputsError, match="cannot be read"):
        load_outputs(tmp_path / "none")
    save_outputs(tmp_path / "o", make())
    file = tmp_path / "o" / "windows.parquet"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(OutputsError, match="cannot be read") as caught:
        load_outputs(tmp_path / "o")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.replace_schema_metadata(None),
        lambda table: table.replace_schema_metadata(
            {"classes": "[" + table["recording"][0].as_py()}
        ),
        lambda table: table.replace_schema_metadata({"classes": '["one"]'}),
        lambda table: table.drop_columns("M"),
        lambda table: table.set_column(0, "recording", [["strange"] * len(table)]),
    ],
)
def test_tables_that_are_no_outputs_are_named(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    save_outputs(tmp_path / "o", make())
    file = tmp_path / "o" / "windows.parquet"
    pq.write_table(change(pq.read_table(file)), file)
    with pytest.raises(OutputsError, match="cannot be read"):
        load_outputs(tmp_path / "o")


def test_the_deployed_output_is_blended_pooled_and_below_one() -> None:
    stored = make()
    stored.windows.clip_probs[0], stored.windows.time_max[0] = 1.0, 1.0
    table = fold_table(stored, OutputSpec(clip=0.6, time_max=0.4), EvaluateSpec())
    w = stored.windows
    for i in range(5):
        mine = w.recording_index == i
        mixed = 0.6 * w.clip_probs[mine] + 0.4 * w.time_max[mine]
        assert table.probs[i] == pytest.approx(np.minimum(mixed.max(axis=0), 1), abs=1e-6)
    assert table.probs.max() < 1
    assert table.probs.dtype == np.float32


def test_secondary_labels_count_or_do_not() -> None:
    counted = fold_table(make(), OutputSpec(), EvaluateSpec(secondary="count")).targets
    ignored = fold_table(make(), OutputSpec(), EvaluateSpec(secondary="ignore")).targets
    assert ignored.astype(int).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert counted.astype(int).tolist() == [[1, 0, 0], [1, 1, 1], [0, 0, 1], [1, 0, 0], [0, 1, 0]]


def tables(*cells: tuple[int, int]) -> dict[tuple[int, int], FoldTable]:
    return {(f, s): fold_table(make(10 * f + s), OutputSpec(), EvaluateSpec()) for f, s in cells}


def padded(table: FoldTable) -> float:
    """Padded cmAP by sklearn: five rows of ones below truth and prediction."""
    ones = np.ones((5, 3))
    truth, probs = np.vstack([table.targets, ones]), np.vstack([table.probs, ones])
    return float(np.mean([average_precision_score(truth[:, c], probs[:, c]) for c in range(3)]))


def test_a_run_scores_the_mean_over_folds_never_pooled() -> None:
    cells = tables((0, 0), (1, 0), (2, 0))
    scores = score_run(cells)
    per_fold = [padded(t) for t in cells.values()]
    assert scores["cv/padded_cmap"] == pytest.approx(np.mean(per_fold), abs=1e-6)
    assert scores["cv/padded_cmap_sd"] == pytest.approx(np.std(per_fold, ddof=1), abs=1e-6)
    pooled = FoldTable(
        (),
        CODES,
        np.zeros(0, np.int64),
        np.concatenate([t.targets for t in cells.values()]),
        np.concatenate([t.probs for t in cells.values()]),
    )
    assert scores["cv/padded_cmap_pooled"] == pytest.approx(padded(pooled), abs=1e-6)
    assert scores["cv/padded_cmap_pooled"] != pytest.approx(scores["cv/padded_cmap"], abs=1e-3)
    floors = [score_fold(t).floor for t in cells.values()]
    assert scores["cv/floor"] == pytest.approx(np.mean(floors))


def test_seeds_are_averaged_within_a_fold_before_the_spread() -> None:
    cells = tables((0, 0), (1, 0), (0, 3), (1, 3))
    scores = score_run(cells)
    means = [np.mean([score_fold(cells[f, s]).padded_cmap for s in (0, 3)]) for f in (0, 1)]
    assert scores["cv/padded_cmap"] == pytest.approx(np.mean(means))
    assert scores["cv/padded_cmap_sd"] == pytest.approx(np.std(means, ddof=1))


def test_a_missing_cell_means_no_score() -> None:
    with pytest.raises(OutputsError, match="lacks cells") as caught:
        score_run(tables((0, 0), (1, 0), (0, 1)))
    assert "(1, 1)" in str(caught.value)


def test_one_fold_has_no_spread() -> None:
    assert "cv/padded_cmap_sd" not in score_run(tables((0, 0)))


def test_the_class_table_pools_folds() -> None:
    cells = list(tables((0, 0), (1, 0)).values())
    table = score_classes(cells)
    assert table["code"].tolist() == list(CODES)
    assert table["support"].tolist() == sum(t.targets.sum(axis=0) for t in cells).tolist()
    assert table["ap"].between(0, 1).all()


def test_windows_of_many_recordings_share_batches() -> None:
    sizes: list[int] = []
    rng = np.random.default_rng(0)
    recorded = [rng.integers(-32767, 32767, n).astype(np.int16) for n in (25, 10, 31, 4)]

    def predictor(waves: Floats) -> tuple[Floats, Floats]:
        sizes.append(len(waves))
        level = np.abs(waves).mean(axis=1, keepdims=True).astype(np.float32)
        return level, level / 2

    got = [
        predict_recordings(
            predictor,
            ["w", "x", "y", "z"],
            lambda i: Waveform(recorded[i], 0.5, 10),
            ["a"],
            windowing=Windowing(1.0, 10),
            batch=batch,
        )
        for batch in (3, 100)
    ]
    assert sizes == [3, 3, 3, 9]
    assert got[0].recording_index.tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 3]
    assert got[0].end_s.tolist() == [1, 2, 3, 1, 1, 2, 3, 4, 1]
    assert np.array_equal(got[0].clip_probs, got[1].clip_probs)


def test_soundscape_windows_are_scored_one_by_one_and_averaged_over_folds() -> None:
    """Against sklearn on the windows themselves: nothing is pooled to recordings or over folds."""
    heard = {}
    for fold, seed in ((0, 0), (1, 0), (1, 1), (0, 1)):
        stored = make(10 * fold + seed)
        w, rng = stored.windows, np.random.default_rng(fold)
        w = replace(w, clip_probs=rng.random((9, 3), np.float32) * 0.9, time_max=w.time_max[:9])
        stored = replace(stored, windows=w)
        targets = np.arange(27).reshape(9, 3) % 5 == 0
        heard[fold, seed] = score_soundscape_windows(
            deployed_windows(stored, targets, OutputSpec())
        )
        mixed = 0.75 * w.clip_probs + 0.25 * w.time_max
        ones = np.ones((5, 3))
        truth, probs = np.vstack([targets, ones]), np.vstack([mixed, ones])
        expected = [average_precision_score(truth[:, c], probs[:, c]) for c in range(3)]
        assert heard[fold, seed]["soundscapes_padded_cmap"] == pytest.approx(np.mean(expected))
        auc = [roc_auc_score(targets[:, c], mixed[:, c]) for c in range(3)]
        assert heard[fold, seed]["soundscapes_macro_auc"] == pytest.approx(np.mean(auc))
        assert heard[fold, seed]["soundscapes_n_windows"] == 9
    scores = score_soundscapes(heard)
    per_fold = [
        np.mean([heard[fold, seed]["soundscapes_macro_auc"] for seed in (0, 1)]) for fold in (0, 1)
    ]
    assert scores["cv/soundscapes_macro_auc"] == pytest.approx(np.mean(per_fold))
    assert scores["cv/soundscapes_macro_auc_sd"] == pytest.approx(np.std(per_fold, ddof=1))
    assert "cv/padded_cmap" not in scores
    silent = score_soundscape_windows((np.zeros((9, 3), bool), mixed))
    assert set(silent) == {f"soundscapes_{n}" for n in ("padded_cmap", "floor", "n_windows")}
    some = score_soundscapes({(0, 0): silent, (1, 0): heard[1, 0]})
    assert some["cv/soundscapes_macro_auc"] == heard[1, 0]["soundscapes_macro_auc"]
    assert "cv/soundscapes_macro_auc_sd" not in some
    one = score_soundscapes({(0, 0): heard[0, 0]})
    assert not [name for name in one if name.endswith("_sd")]
    with pytest.raises(OutputsError, match="do not fit"):
        deployed_windows(make(), np.zeros((3, 3), bool), OutputSpec())

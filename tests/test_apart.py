"""Rows of which a part is in training: left out of the headline, scored alone beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from birdlab.errors import OutputsError
from birdlab.evaluate.outputs import StoredOutputs, load_outputs, save_outputs
from birdlab.evaluate.predictor import WindowOutputs
from birdlab.evaluate.score import (
    FoldTable,
    fold_table,
    score_apart,
    score_fold,
    score_fold_apart,
    score_run,
)
from birdlab.spec.parts import EvaluateSpec, OutputSpec

CODES = ("a", "b", "c")
SPECS = (OutputSpec(), EvaluateSpec())


def make(seed: int, apart: list[int] | None = None, n: int = 8) -> StoredOutputs:
    """Outputs of `n` recordings of two windows each, some of them apart."""
    rng = np.random.default_rng(seed)
    names = tuple(f"{seed}-{i}.ogg" for i in range(n))
    windows = WindowOutputs(
        names,
        CODES,
        np.repeat(np.arange(n), 2),
        np.tile([5.0, 10.0], n),
        rng.random((2 * n, 3), np.float32),
        rng.random((2 * n, 3), np.float32),
    )
    labels = pd.DataFrame(
        {
            "recording": names,
            "primary_label": [CODES[i % 3] for i in range(n)],
            "secondary_labels": [()] * n,
        }
    )
    if apart is not None:
        labels["apart"] = np.isin(np.arange(n), apart)
    return StoredOutputs(windows, labels)


def without(stored: StoredOutputs, gone: list[int]) -> StoredOutputs:
    """The outputs as if some recordings had never been predicted."""
    w = stored.windows
    kept = [i for i in range(len(w.recordings)) if i not in gone]
    chosen = np.isin(w.recording_index, kept)
    windows = WindowOutputs(
        tuple(w.recordings[i] for i in kept),
        w.codes,
        np.searchsorted(kept, w.recording_index[chosen]),
        w.end_s[chosen],
        w.clip_probs[chosen],
        w.time_max[chosen],
    )
    return replace(stored, windows=windows, labels=stored.labels.iloc[kept].reset_index(drop=True))


def both(stored: StoredOutputs) -> tuple[FoldTable, FoldTable]:
    return fold_table(stored, *SPECS), fold_table(stored, *SPECS, apart=True)


def equal(one: FoldTable, other: FoldTable) -> bool:
    arrays = ("primary", "targets", "probs")
    same = all(np.array_equal(getattr(one, a), getattr(other, a)) for a in arrays)
    return same and one.recordings == other.recordings and one.codes == other.codes


def test_the_headline_is_that_of_a_run_without_these_rows() -> None:
    stored = make(0, [1, 4])
    headline, apart = both(stored)
    assert equal(headline, fold_table(without(make(0), [1, 4]), *SPECS))
    assert equal(apart, fold_table(without(make(0), [0, 2, 3, 5, 6, 7]), *SPECS))
    assert score_fold(headline).n_rows == 6


@pytest.mark.parametrize("stored", [make(0), make(0, [])])
def test_outputs_without_such_rows_score_as_before(stored: StoredOutputs) -> None:
    headline, apart = both(stored)
    assert headline.recordings == stored.windows.recordings
    assert apart.recordings == ()
    assert score_fold_apart(apart) == {}
    assert score_apart({(0, 0): apart, (1, 0): apart}) == {}


def test_the_mark_is_stored_and_read_back(tmp_path: Path) -> None:
    for name, stored in (("marked", make(0, [1, 4])), ("plain", make(0))):
        save_outputs(tmp_path / name, stored)
        pd.testing.assert_frame_equal(load_outputs(tmp_path / name).labels, stored.labels)


def test_scores_apart_are_those_of_the_rows_alone() -> None:
    _, apart = both(make(0, [1, 4, 5]))
    scores = score_fold_apart(apart)
    truth = np.vstack([apart.targets, np.ones((5, 3))])
    probs = np.vstack([apart.probs, np.ones((5, 3))])
    assert scores["padded_cmap_apart"] == pytest.approx(average_precision_score(truth, probs))
    assert scores["n_rows_apart"] == 3
    assert {"top1_apart", "floor_apart", "macro_auc_apart"} < set(scores)
    _, single = both(make(0, [1]))
    assert "macro_auc_apart" not in score_fold_apart(single), "one row has no AUC"
    with pytest.raises(OutputsError):
        score_fold(single)


def test_a_run_averages_them_over_the_folds_that_have_any() -> None:
    cells = {(f, s): make(10 * f + s, [[1], [0, 5], []][f]) for f in range(3) for s in (0, 1)}
    apart = {key: both(stored)[1] for key, stored in cells.items()}
    scores = score_apart(apart)
    per_fold = [
        np.mean([score_fold_apart(apart[f, s])["padded_cmap_apart"] for s in (0, 1)])
        for f in (0, 1)
    ]
    assert scores["cv/padded_cmap_apart"] == pytest.approx(np.mean(per_fold))
    assert "cv/n_rows_apart" not in scores
    headline = score_run({key: both(stored)[0] for key, stored in cells.items()})
    assert not set(scores) & set(headline)

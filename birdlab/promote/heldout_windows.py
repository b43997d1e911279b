"""The windows of recordings that validation held out, from their files as prediction hears them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from birdlab.cellplan import CellPlan
from birdlab.data.audio import Waveform, decode
from birdlab.errors import PromotionError
from birdlab.evaluate.outputs import StoredOutputs
from birdlab.evaluate.passes import count_passes, find_windows
from birdlab.evaluate.windows import Windowing, find_hop, iter_windows
from birdlab.infer.card import ModelCard
from birdlab.infer.reading import NotHeard, read_ahead, undecodable
from birdlab.plan import Plan

Floats = npt.NDArray[np.float32]


def held_out(cell: CellPlan) -> npt.NDArray[np.int64]:
    """The rows of the plan's table that a fold model is scored on."""
    assert cell.validation is not None
    return cell.validation


def hear_held_out(
    plan: Plan, cell: CellPlan, card: ModelCard, count: Callable[[], None]
) -> Iterator[Floats]:
    """The windows of the held-out recordings of a cell, decoded from their files as predict does.

    Of a row that is a part of a recording the whole is decoded, and the part cut out of it.
    """
    rows, hears = held_out(cell), card.windowing
    paths = {row: _path(plan, cell, row) for row in rows}
    is_part = np.asarray(~np.isnan(cell.rows.spans_s).all(axis=1), bool)
    whole = [paths[row] for row in rows if not is_part[row]]
    hop = find_hop(hears, plan.spec.evaluate.hop_s)
    with closing(read_ahead(whole, hears, hop_samples=hop)) as ahead:
        for row in rows:
            if is_part[row]:
                part = _part(paths[row], cell.rows.spans_s[row], hears)
                yield from iter_windows(part, hears, hop)
            else:
                heard = next(ahead)
                if isinstance(heard, NotHeard):
                    raise undecodable(paths[row], heard.reason)
                yield from heard.windows
            count()


def _path(plan: Plan, cell: CellPlan, row: int) -> Path:
    key = cell.rows.keys[row]
    if key is None or not plan.paths[key].is_file():
        raise PromotionError(
            "the audio of a held-out recording is not there",
            where=str(cell.rows.names[row]),
            fix="correct [data] in birdlab.toml",
        )
    return plan.paths[key]


def _part(path: Path, span_s: npt.NDArray[np.float64], hears: Windowing) -> Waveform:
    recording = decode(path, hears.sample_rate_hz)
    samples = np.rint(span_s * hears.sample_rate_hz)
    first, last = (None if np.isnan(end) else int(end) for end in samples)
    return replace(recording, samples=recording.samples[first:last])


def in_time(
    heard: Sequence[Floats], stored: StoredOutputs, windowing: Windowing, hop_s: float | None
) -> Floats:
    """What was heard in passes as the windows that are stored; as it is where it does not fit."""
    w, k = stored.windows, windowing.windows_per_pass
    hops = windowing.window_samples // find_hop(windowing, hop_s)
    n_windows = np.bincount(w.recording_index, minlength=len(w.recordings)).tolist()
    answers = np.concatenate(heard)
    fits = len(answers) == k * sum(count_passes(n, k, hops) for n in n_windows)
    return answers[find_windows(n_windows, k, hops)] if fits else answers

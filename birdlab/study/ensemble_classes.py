"""Members with other classes than the first: which they know, in their place what they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from birdlab.evaluate.evidence import FoldTable
from birdlab.study.species import FoldTables
from birdlab.words import count_words, list_some


def add_classes(runs: Mapping[str, FoldTables]) -> dict[str, FoldTables]:
    """The runs, each with the classes of the first that it lacks behind its own.

    The probability of such a class is 0 and its truth that of the first, False for recordings that
    the first has not. A run that shares no class with the first is as it was.
    """
    first = next(iter(runs.values()))
    codes = next(iter(first.values())).codes
    truth = {
        name: row
        for table in first.values()
        for name, row in zip(table.recordings, table.targets, strict=True)
    }
    return {
        name: {cell: _widen(table, codes, truth) for cell, table in own.items()}
        for name, own in runs.items()
    }


def _widen(
    table: FoldTable, codes: tuple[str, ...], truth: Mapping[str, npt.NDArray[np.bool_]]
) -> FoldTable:
    own = set(table.codes)
    lacking = [i for i, code in enumerate(codes) if code not in own]
    if not lacking or len(lacking) == len(codes):
        return table
    none = np.zeros(len(codes), bool)
    targets = np.array([truth.get(name, none)[lacking] for name in table.recordings], bool)
    shape = (len(table.recordings), len(lacking))
    return replace(
        table,
        codes=(*table.codes, *(codes[i] for i in lacking)),
        targets=np.concatenate([table.targets, targets.reshape(shape)], axis=1),
        probs=np.concatenate([table.probs, np.zeros(shape, table.probs.dtype)], axis=1),
    )


def class_notes(
    names: tuple[str, ...], codes: tuple[str, ...], known: npt.NDArray[np.bool_]
) -> tuple[str, ...]:
    """What is to be known of members that lack classes, in words; known: [M, C]."""
    return tuple(
        f"{name} does not know {count_words(int((~own).sum()), 'class', 'classes')} "
        f"({list_some(np.asarray(codes)[~own])}): there the others are blended, and alone it "
        "scores as a constant."
        for name, own in zip(names, known, strict=True)
        if not own.all()
    )

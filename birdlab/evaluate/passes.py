"""Passes: which windows of a recording a model hears at once, and where its answers belong.

With k windows a pass and m hops a window the windows of a recording have numbers 0, 1, 2 … in time,
m of them to a whole window. A pass hears the windows j, j + m, …, j + (k - 1)m, which follow each
other without overlap. What lies beyond the last window of the recording is silence, and what the
model says of it is dropped. numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def list_passes(n_windows: int, per_pass: int, hops: int = 1) -> Ints:
    """The number of the first window of each pass, rising: [P] of a recording of `n_windows`.

    `per_pass` windows each, `hops` from one whole window to the next; `n_windows` is one more than
    a multiple of `hops`. Each window is heard once.
    """
    groups = np.arange(0, n_windows, per_pass * hops)
    first = (groups[:, None] + np.arange(hops)).ravel()
    return np.asarray(first[first < n_windows], np.int64)


def count_passes(n_windows: int, per_pass: int, hops: int = 1) -> int:
    """How many passes `list_passes` has; none for no window."""
    whole = -(-n_windows // hops)
    return -(-whole // per_pass) + (hops - 1) * -(-max(0, whole - 1) // per_pass)


def find_windows(n_windows: Iterable[int], per_pass: int, hops: int = 1) -> Ints:
    """Where the answer to each window is among those of all passes: [W] of rows [P · per_pass].

    `n_windows` of one recording after the other; windows of each in time.
    """
    parts, before = [np.empty(0, np.int64)], 0
    for n in n_windows:
        group, rest = np.divmod(np.arange(n, dtype=np.int64), per_pass * hops)
        place, shift = np.divmod(rest, hops)
        parts.append((before + group * hops + shift) * per_pass + place)
        before += count_passes(n, per_pass, hops)
    return np.concatenate(parts)

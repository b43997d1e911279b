"""Pairs of recordings that share sound, found by their fingerprints.

Two steps. A number that two fingerprints have in common votes for an offset between them, and a
few votes for one offset make a candidate: so the cost grows with what recordings have in common,
not with the number of pairs. Then the two are laid on each other and their bits are correlated in
a sliding window. Bits are centred within the window, since steady noise sets most of them alike
in recordings that share nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.fingerprint import SPAN_S, STEP_S, Fingerprint
from birdlab.errors import DataError

SIMILARITY = 0.7
"""The correlation of bits from which on a window holds the same sound in both recordings.

On 164 real recordings copies have 0.78 or more and other pairs 0.63 or less (windows of 3 s).
"""

SHORTEST_OVERLAP_S = 2.0
"""In less, two songs of one bird may look the same."""

_VOTES = 4
_LINKS = 64  # a number that many recordings share links each to the next so many
_OFFSETS_TRIED = 2
_PASSES = 13  # over the numbers, each taking its share of them, to bound memory
_BLOCK_NUMBERS = 1 << 20  # of the recordings whose votes are counted at once
_HEARD_SHARE = 1 / 3
_PLACE_BITS, _LAG_BITS = 21, 22
_LAG_ZERO = 1 << (_LAG_BITS - 1)
_COLUMNS = {"first": "int64", "second": "int64", "overlap_s": "float64", "similarity": "float64"}

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_NONE: Int64 = np.zeros(0, np.int64)


def near_pairs(
    prints: Sequence[Fingerprint], overlap_s: float, others: Sequence[Fingerprint] | None = None
) -> pd.DataFrame:
    """The pairs that share at least `overlap_s` seconds of sound, a row each.

    Columns: first, second (places in `prints`, first < second; with `others`, second is a place
    in `others` and only pairs across are looked for), overlap_s (the stretch in common; exact to
    0.05 s for a copy that was cut, rougher where both go on differently) and similarity
    (correlation of the bits where they are most alike, 0.7..1), ordered by first and second.
    Silence counts for nothing, and what is shorter than `overlap_s` is in no pair; a stretch in
    common may be shorter by a quarter. Of more than 64 recordings with one sound, each is linked
    to its neighbours in the order given, not to all. Raises DataError for an overlap below 2 s,
    and for more than two million recordings.
    """
    if not overlap_s >= SHORTEST_OVERLAP_S:
        raise DataError(
            "fingerprints do not tell shorter pieces apart",
            got=f"overlap_s {overlap_s:g}",
            expected=f"{SHORTEST_OVERLAP_S:g} or more",
        )
    every = [*prints, *(others or ())]
    if len(every) >= 1 << _PLACE_BITS:
        raise DataError(
            "too many recordings to compare at once",
            got=len(every),
            expected=f"fewer than {1 << _PLACE_BITS}",
        )
    n_firsts = len(prints) if others is not None else None
    window = int((overlap_s - SPAN_S) / STEP_S)  # one less than fit: a copy starts in between
    rows = []
    for first, second, lags in _candidates(every, window, n_firsts):
        similarity, n_shared = max(
            compare(every[first], every[second], lag, window) for lag in lags
        )
        if n_shared:
            length_s = (n_shared - 1) * STEP_S + SPAN_S
            rows.append((first, second - (n_firsts or 0), length_s, similarity))
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


def compare(first: Fingerprint, second: Fingerprint, lag: int, window: int) -> tuple[float, int]:
    """How alike two fingerprints are where they are most alike (0..1), and how long for.

    Number i of `second` is laid on number i + `lag` of `first`; the length is in numbers. (0.0, 0)
    when no `window` of numbers is alike. Numbers that repeat the one before, as silence does, are
    left out; a window with less than a third of its numbers left is not alike.
    """
    start, end = max(0, lag), min(len(first), len(second) + lag)
    if end - start < window:
        return 0.0, 0
    heard = _changes(first)[start:end] & _changes(second)[start - lag : end - lag]
    similarity = _correlate(
        _signs(first[start:end]), _signs(second[start - lag : end - lag]), heard, window
    )
    peak = int(similarity.argmax())
    if similarity[peak] < SIMILARITY:
        return 0.0, 0
    # A window with half of its numbers in the shared stretch is half as much alike.
    apart = np.flatnonzero(similarity < similarity[peak] / 2)
    after = int(np.searchsorted(apart, peak))
    low = int(apart[after - 1]) + 1 if after else -(window // 2)
    high = int(apart[after]) if after < apart.size else similarity.size + (window - 1) // 2
    return float(similarity[peak]), high - low


def _correlate(first: Float32, second: Float32, heard: Bool, window: int) -> Float64:
    """Pearson's correlation of the bits in each window, centred per bit; 0 where little is heard.

    `first` and `second` [n, 32] of ±1, `heard` [n]; gives [n - window + 1].
    """
    first, second = first * heard[:, None], second * heard[:, None]
    n = _slide(heard[:, None], window)[:, 0]
    n_or_1 = np.maximum(n, 1)
    sums, other_sums = _slide(first, window), _slide(second, window)
    both = _slide((first * second).sum(1, keepdims=True), window)[:, 0]
    covariance = both - np.einsum("tb,tb->t", sums, other_sums) / n_or_1
    spread = 32 * n - np.einsum("tb,tb->t", sums, sums) / n_or_1
    other_spread = 32 * n - np.einsum("tb,tb->t", other_sums, other_sums) / n_or_1
    scale = np.sqrt(np.maximum(spread * other_spread, 1.0))
    return np.where(n < _HEARD_SHARE * window, 0.0, covariance / scale)


def _slide(values: npt.NDArray[np.generic], window: int) -> Float64:
    """Sums over each window of rows, [n - window + 1, columns]."""
    totals = np.zeros((values.shape[0] + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=totals[1:])
    return totals[window:] - totals[:-window]


def _signs(numbers: Fingerprint) -> Float32:
    """The bits of each number as ±1, [n, 32]."""
    bits = np.unpackbits(np.ascontiguousarray(numbers, "<u4").view(np.uint8), bitorder="little")
    return bits.reshape(-1, 32).astype(np.float32) * 2 - 1


def _changes(numbers: Fingerprint) -> Bool:
    """Which numbers differ from the one before; the first does."""
    changes = np.ones(len(numbers), np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=changes[1:])
    return changes


def _candidates(
    prints: Sequence[Fingerprint], window: int, n_firsts: int | None
) -> Iterator[tuple[int, int, list[int]]]:
    """Pairs by first and second with the offsets that got most votes, best first."""
    numbers, owners, offsets = _find_shared(prints, window)
    block = np.cumsum(np.bincount(owners, minlength=len(prints))) // _BLOCK_NUMBERS
    blocks_of_numbers = block[owners]
    for number in range(int(block[-1]) + 1 if len(prints) else 0):
        left = np.flatnonzero(blocks_of_numbers == number)
        yield from _elect(_link(left, numbers, owners, offsets, n_firsts))


def _find_shared(prints: Sequence[Fingerprint], window: int) -> tuple[Fingerprint, Int32, Int32]:
    """The numbers that occur more than once, whose they are and where in it.

    Equal numbers stand together, in the order of their owners. Repeats of the number before and
    fingerprints shorter than the window are left out.
    """
    places = [np.flatnonzero(_changes(p)) if len(p) >= window else _NONE for p in prints]
    numbers = np.concatenate(
        [np.zeros(0, np.uint32), *(p[place] for p, place in zip(prints, places, strict=True))]
    )
    owners = np.repeat(np.arange(len(prints), dtype=np.int32), [len(place) for place in places])
    offsets = np.concatenate([_NONE, *places]).astype(np.int32)
    del places
    shared = [_NONE]
    for share in range(_PASSES):
        mine = np.flatnonzero(numbers % _PASSES == share)
        mine = mine[np.argsort(numbers[mine], kind="stable")]
        same = numbers[mine[1:]] == numbers[mine[:-1]]
        shared.append(mine[np.append(same, False) | np.insert(same, 0, False)[: len(mine)]])
    kept = np.concatenate(shared)
    return numbers[kept], owners[kept], offsets[kept]


def _link(
    left: Int64, numbers: Fingerprint, owners: Int32, offsets: Int32, n_firsts: int | None
) -> Int64:
    """The votes of the places `left`, each with those that hold the same number behind it.

    A vote is (first, second, offset) in one integer.
    """
    votes = [_NONE]
    for ahead in range(1, _LINKS + 1):
        left = left[left + ahead < len(numbers)]
        left = left[numbers[left] == numbers[left + ahead]]
        if not left.size:
            break
        first, second = owners[left], owners[left + ahead]
        wanted = first != second
        if n_firsts is not None:
            wanted &= (first < n_firsts) & (second >= n_firsts)
        lag = offsets[left].astype(np.int64) - offsets[left + ahead] + _LAG_ZERO
        pair = (first.astype(np.int64) << _PLACE_BITS) | second
        votes.append(((pair << _LAG_BITS) | lag)[wanted])
    return np.concatenate(votes)


def _elect(votes: Int64) -> Iterator[tuple[int, int, list[int]]]:
    """Pairs with the offsets that have votes enough, best first; a pair's votes come together."""
    keys, counts = np.unique(votes, return_counts=True)
    around = counts.copy()  # a copy that starts between two numbers votes for both offsets
    beside = np.flatnonzero(keys[1:] == keys[:-1] + 1)
    around[beside] += counts[beside + 1]
    around[beside + 1] += counts[beside]
    kept = around >= _VOTES
    keys, around = keys[kept], around[kept]
    pairs, lags = keys >> _LAG_BITS, (keys & ((1 << _LAG_BITS) - 1)) - _LAG_ZERO
    order = np.lexsort((lags, -around, pairs))
    for chosen in np.split(order, np.flatnonzero(np.diff(pairs[order])) + 1):
        if chosen.size:  # there is one empty part when nothing is elected
            first, second = divmod(int(pairs[chosen[0]]), 1 << _PLACE_BITS)
            yield first, second, lags[chosen[:_OFFSETS_TRIED]].tolist()

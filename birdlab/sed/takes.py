"""Where recordings, or the parts of them that are used, lie in a waveform store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from birdlab.data.store import WaveStore
from birdlab.errors import DataError

_LOCATED_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Takes:
    """Recordings, or the parts of them that are used, as places in a waveform store.

    place: [N] the store's number of the recording; first and n_samples: [N] the part of it.
    """

    place: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    n_samples: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.place)


def locate_takes(
    waves: WaveStore, keys: npt.NDArray[np.bytes_], spans_s: npt.NDArray[np.float64]
) -> Takes:
    """Where the parts `spans_s` [N, 2] of the recordings `keys` [N] lie.

    A span is (start, end) in seconds, NaN for the start or the end of the recording. Raises
    DataError for a recording that is not in the store and for a span that holds no sample.
    """
    takes = Takes(*(np.empty(len(keys), np.int64) for _ in range(3)))
    for begin in range(0, len(keys), _LOCATED_AT_ONCE):
        part = slice(begin, begin + _LOCATED_AT_ONCE)
        places = waves.locate([key.decode() for key in keys[part].tolist()])
        length = np.array([waves.length_of(place) for place in places.tolist()], np.int64)
        spans = np.rint(spans_s[part] * waves.sample_rate_hz)
        first = np.where(np.isnan(spans[:, 0]), 0, spans[:, 0]).astype(np.int64)
        last = np.where(np.isnan(spans[:, 1]), length, np.minimum(spans[:, 1], length))
        takes.place[part], takes.first[part] = places, first
        takes.n_samples[part] = last.astype(np.int64) - first
    empty = np.flatnonzero((takes.n_samples < 1) | (takes.first < 0))
    if len(empty):
        row = int(empty[0])
        raise DataError(
            f"{len(empty)} kept ranges lie outside their recordings",
            got=f"{spans_s[row, 0]:g} to {spans_s[row, 1]:g} s of {keys[row].decode()}",
            fix="correct the list of kept ranges",
        )
    return takes

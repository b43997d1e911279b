"""Named random draws: every number is keyed by (seed, fold, epoch, position, transform name).

A position is the place of a clip in its epoch. Two clips of one row get two sets of draws,
and the draws of one transform do not move when another is switched on or off, or when the
batch is made by another worker.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def key_of(*parts: object) -> int:
    """A 128-bit key for named parts; equal parts give equal keys on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def generator(*parts: object) -> np.random.Generator:
    """A Philox generator keyed by the parts."""
    return np.random.Generator(np.random.Philox(key=key_of(*parts)))


def torch_seed(*parts: object) -> int:
    """A seed for torch keyed by the parts, 0 to 2**63 - 1."""
    return key_of(*parts) % 2**63


class EpochDraws:
    """All draws of one epoch; `at(positions, name)` gives those of a transform for a batch."""

    def __init__(self, seed: int, fold: int | None, epoch: int, n_positions: int) -> None:
        self._key = (seed, fold, epoch)
        self._n = n_positions
        self._cache: dict[tuple[str, str, int], npt.NDArray[np.float64]] = {}

    def generator(self, name: str) -> np.random.Generator:
        """A generator for one draw an epoch (the order of rows)."""
        return generator(*self._key, name)

    def at(self, positions: npt.NDArray[np.int64], name: str) -> Draws:
        """The draws of the transform `name` at these positions."""
        return Draws(self, positions, name)

    def table(self, name: str, tag: str, k: int) -> npt.NDArray[np.float64]:
        """Uniform numbers [n_positions, k] of one transform, made once an epoch."""
        cached = self._cache.get((name, tag, k))
        if cached is None:
            cached = generator(*self._key, name, tag).random((self._n, k))
            self._cache[name, tag, k] = cached
        return cached


class Draws:
    """The random numbers of one transform for one batch."""

    def __init__(self, epoch: EpochDraws, positions: npt.NDArray[np.int64], name: str) -> None:
        self._epoch, self.positions, self._name = epoch, positions, name

    def __len__(self) -> int:
        return len(self.positions)

    def uniform(self, k: int = 1, *, tag: str = "") -> npt.NDArray[np.float64]:
        """Numbers in [0, 1), shape [batch, k]; another `tag` gives independent ones."""
        table: npt.NDArray[np.float64] = self._epoch.table(self._name, tag, k)[self.positions]
        return table

    def happens(self, p: float) -> npt.NDArray[np.bool_]:
        """Which clips of the batch a transform with probability `p` changes, shape [batch]."""
        chosen: npt.NDArray[np.bool_] = self.uniform(1, tag="happens")[:, 0] < p
        return chosen

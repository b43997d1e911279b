"""Named random draws: every number is keyed by (seed, fold, epoch, position, transform name).

A position is the place of a clip in its epoch. Two clips of one row get two sets of draws,
and the draws of one transform do not move when another is switched on or off, or when the
batch is made by another worker. Nothing is kept: an epoch of a million clips costs no memory.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

_PER_BLOCK = 4  # numbers that Philox makes for one value of its counter


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

    def __init__(self, seed: int, fold: int | None, epoch: int) -> None:
        self._key = (seed, fold, epoch)

    def generator(self, name: str) -> np.random.Generator:
        """A generator for one draw an epoch (the order of rows)."""
        return generator(*self._key, name)

    def generator_at(self, name: str, position: int) -> np.random.Generator:
        """A generator for one position, for a transform that needs many numbers there.

        Twice as fast as the counter-based ones.
        """
        return np.random.Generator(np.random.SFC64(key_of(*self._key, name, "at", position)))

    def at(self, positions: npt.NDArray[np.int64], name: str) -> Draws:
        """The draws of the transform `name` at these positions."""
        return Draws(self, positions, name)

    def table(
        self, name: str, tag: str, k: int, positions: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Uniform numbers [len(positions), k] of one transform.

        Each position owns a run of the generator's counter, so that its numbers can be made
        without those before it. Cheap for positions that lie together, as those of a batch do.
        """
        if len(positions) == 0:
            return np.zeros((0, k))
        first, last = int(positions.min()), int(positions.max())
        blocks = -(-k // _PER_BLOCK)
        bits = np.random.Philox(key=key_of(*self._key, name, tag), counter=first * blocks)
        run = np.random.Generator(bits).random((last - first + 1, blocks * _PER_BLOCK))
        return run[positions - first, :k]


class Draws:
    """The random numbers of one transform for one batch."""

    def __init__(self, epoch: EpochDraws, positions: npt.NDArray[np.int64], name: str) -> None:
        self._epoch, self.positions, self._name = epoch, positions, name

    def __len__(self) -> int:
        return len(self.positions)

    def uniform(self, k: int = 1, *, tag: str = "") -> npt.NDArray[np.float64]:
        """Numbers in [0, 1), shape [batch, k]; another `tag` gives independent ones."""
        return self._epoch.table(self._name, tag, k, self.positions)

    def generator(self, i: int) -> np.random.Generator:
        """A generator for clip `i` of the batch: for noise, say, a number a sample."""
        return self._epoch.generator_at(self._name, int(self.positions[i]))

    def happens(self, p: float) -> npt.NDArray[np.bool_]:
        """Which clips of the batch a transform with probability `p` changes, shape [batch]."""
        chosen: npt.NDArray[np.bool_] = self.uniform(1, tag="happens")[:, 0] < p
        return chosen

"""Feature maps: how they are read off a network, stacked over levels, and cut to their centre."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from birdlab.errors import SpecError
from birdlab.evaluate.windows import WHOLE, Share


@dataclass(frozen=True)
class MapReader:
    """Reads the feature map [B, D, F, T'] of an image [B, C, M, T] off a network.

    Frames are zero-padded on the right to a multiple of `frame_multiple` (the width of a patch,
    for networks that cut the image into patches). A feature column stays when at least one of
    the frames under it is one of the T given: ceil(T' · T / padded T) columns do.
    `channels_last` maps are transposed; tokens [B, prefix + F·T', D] lose their `n_prefix`
    first ones and become the map whose rows cover `patch_bins` bins each (None: no patches are
    known, tokens stay what they are). The maps of several feature levels are pooled to the
    smallest and stacked (`stack_levels`). `before_pooling` reads what a timm network feeds to
    its own pooling, instead of what calling it gives.
    """

    before_pooling: bool = False
    frame_multiple: int = 1
    channels_last: bool = False
    patch_bins: int | None = None
    n_prefix: int = 0

    def __call__(self, network: Any, image: Tensor) -> Tensor:
        n_frames, extra = image.shape[3], -image.shape[3] % self.frame_multiple
        if extra:
            image = nn.functional.pad(image, (0, extra))
        maps = []
        for given in self._run(network, image):
            level = self._as_map(given, image.shape[2])
            n_columns = level.shape[-1]
            keep = math.ceil(n_columns * n_frames / image.shape[3])
            maps.append(level[..., :keep] if keep < n_columns else level)
        return stack_levels(maps)

    def _run(self, network: Any, image: Tensor) -> Sequence[Tensor]:
        given = network.forward_features(image) if self.before_pooling else network(image)
        return [given] if isinstance(given, Tensor) else list(given)

    def _as_map(self, given: Tensor, n_bins: int) -> Tensor:
        if given.ndim == 3 and self.patch_bins is not None:
            tokens = given[:, self.n_prefix :].transpose(1, 2)
            return tokens.reshape(*tokens.shape[:2], n_bins // self.patch_bins, -1)
        return given.permute(0, 3, 1, 2) if self.channels_last and given.ndim == 4 else given


def stack_levels(maps: Sequence[Tensor]) -> Tensor:
    """Maps [B, D_i, F_i, T_i] as one [B, ΣD, min F, min T], from shallow to deep.

    Larger ones are averaged over the parts of frequency and time that the smallest has cells
    for, which is what adaptive average pooling does.
    """
    if len(maps) == 1:
        return maps[0]
    rows, columns = (min(m.shape[axis] for m in maps) for axis in (2, 3))
    pooled = []
    for level in maps:
        if level.shape[3] > columns:
            level = level @ _averaging(level.shape[3], columns, level)
        if level.shape[2] > rows:
            level = _averaging(level.shape[2], rows, level).T @ level
        pooled.append(level)
    return torch.cat(pooled, dim=1)


def _averaging(n: int, m: int, like: Tensor) -> Tensor:
    """The matrix [n, m] that averages n cells in m parts, from floor(jn/m) to ceil((j+1)n/m)."""
    cell, part = torch.arange(n, device=like.device)[:, None], torch.arange(m, device=like.device)
    first, end = part * n // m, ((part + 1) * n + m - 1) // m
    inside = (cell >= first) & (cell < end)
    return (inside / (end - first)).to(like.dtype)


def slice_share(maps: Tensor, share: Share) -> Tensor:
    """The feature frames [B, D, F, n] whose centres lie in `share` of the time axis.

    Frame i of T has its centre at (i + 0.5) / T; it counts when start <= centre < end, so that of
    shares that follow each other none has a frame of another and none is left over. Raises
    SpecError when there is none: the part is shorter than one frame.
    """
    n_frames, (start, end) = maps.shape[3], share
    if share == WHOLE:
        return maps
    inside = [i for i in range(n_frames) if start <= (i + 0.5) / n_frames < end]
    if not inside:
        raise SpecError(
            "the part of the input to be predicted holds no feature frame",
            where="evaluate.context_s",
            got=f"{start:g} to {end:g} of {n_frames} frames",
            fix="use a shorter context, or a feature level with more frames",
        )
    return maps[..., inside[0] : inside[-1] + 1]

"""Distances between places on the earth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Places = npt.NDArray[np.float64]
"""Latitude and longitude in degrees, [N, 2]."""

EARTH_KM = 6371.0088
"""The mean radius of the earth. Source: IUGG (1980)."""


def far_from(places: Places, others: Places, km: float) -> npt.NDArray[np.bool_]:
    """Which of the places lie further than `km`, on a great circle, from all of the others, [N].

    All of them where there are no others.
    """
    if not len(others):
        return np.ones(len(places), np.bool_)
    if not len(places):
        return np.zeros(0, np.bool_)
    nearest, _ = cKDTree(_points(others)).query(_points(places))
    angle = 2 * np.arcsin(np.minimum(nearest / 2, 1))
    return np.asarray(angle * EARTH_KM > km)


def _points(places: Places) -> Places:
    """Places as points of the unit sphere, [N, 3]."""
    latitude, longitude = np.radians(places).T
    return np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ],
        axis=1,
    )

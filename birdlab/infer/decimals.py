"""Probabilities as text, quickly: nine significant digits, so that float32 comes back unchanged.

`repr` of six million numbers takes pandas eleven seconds; arithmetic on arrays takes one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DIGITS = 9
"""Nine decimal digits tell any two float32 apart."""
_WIDTH = DIGITS + len(".e-00")


def format_rows(values: npt.NDArray[np.float32]) -> list[bytes]:
    """Each row of `values` [R, C], 0..1, as its numbers like `2.50000000e-01` with commas between.

    Zero is `0.00000000e+00`. The values must be finite, 0 or more, and below 10.
    """
    n_rows, n_columns = values.shape
    mantissas, exponents = _split(values.astype(np.float64))
    text = np.empty((n_rows, n_columns, _WIDTH + 1), np.uint8)
    left = mantissas.astype(np.uint32)
    for place in range(DIGITS, 0, -1):  # of the digits; the point stands after the first
        left, digit = np.divmod(left, np.uint32(10))
        text[:, :, place if place > 1 else 0] = digit + ord("0")
    text[:, :, 1] = ord(".")
    text[:, :, DIGITS + 1] = ord("e")
    text[:, :, DIGITS + 2] = np.where(exponents < 0, ord("-"), ord("+"))
    tens, ones = np.divmod(np.abs(exponents).astype(np.uint8), np.uint8(10))
    text[:, :, DIGITS + 3] = tens + ord("0")
    text[:, :, DIGITS + 4] = ones + ord("0")
    text[:, :, DIGITS + 5] = ord(",")
    flat = text.reshape(n_rows, -1)
    return [row.tobytes()[:-1] for row in flat]


def _split(
    values: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Whole mantissas of nine digits and the exponents of the first; 0 and 0 for zero."""
    exponents = np.zeros(values.shape)
    np.log10(values, where=values > 0, out=exponents)
    np.floor(exponents, out=exponents)
    mantissas = np.rint(values * 10.0 ** (DIGITS - 1 - exponents))
    over = mantissas >= 10**DIGITS  # rounded up to the next power of ten
    under = (mantissas < 10 ** (DIGITS - 1)) & (values > 0)  # log10 was a hair too high
    exponents += over
    exponents -= under
    redone = over | under
    mantissas[redone] = np.rint(values[redone] * 10.0 ** (DIGITS - 1 - exponents[redone]))
    return mantissas, exponents.astype(np.int64)

"""A mel power spectrum made of convolutions and matrix products alone, for export.

An n_fft of P·Q points is a discrete Fourier transform in two stages. With n = Q·a + b and
k = k1 + P·k2:

    X[k] = Σ_b exp(-2πi·b·k2/Q) · ( Σ_a x[Q·a+b]·w[Q·a+b]·exp(-2πi·(a·k1/P + b·k1/N)) )

The inner sum, window and twiddle factors folded in, is a convolution with Q groups whose
stride moves from frame to frame, so no frames are ever copied. The outer sum is one matrix
product. A real signal needs k1 ≤ P/2 only: the power of bin k > N/2 is that of bin N-k.
Source: the Cooley-Tukey factorisation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def split_n_fft(n_fft: int, hop: int) -> tuple[int, int]:
    """The factors (P, Q) of `n_fft` with the fewest multiplications; Q divides `hop` too."""

    def cost(q: int) -> int:
        half = n_fft // q // 2 + 1
        return 2 * n_fft * half + half * (2 * q) ** 2

    common = math.gcd(n_fft, hop)
    q = min((q for q in range(1, common + 1) if common % q == 0), key=cost)
    return n_fft // q, q


class DftMelPower(nn.Module):
    """Mel power of padded waves, equal to the FFT form up to rounding.

    `window`: [n_fft] float64, already normalised. `filterbank`: [n_mels, n_fft // 2 + 1]
    float64. Called with padded waves [B, (T-1)·hop + n_fft or more]; gives [B, n_mels, T].
    """

    first: Tensor
    second: Tensor
    mel: Tensor

    def __init__(self, window: Tensor, filterbank: Tensor, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = len(window), hop
        self.p, self.q = split_n_fft(self.n_fft, hop)
        self.n_k1 = self.p // 2 + 1
        for name, matrix in (
            ("first", self._first_stage(window)),
            ("second", self._second_stage()),
            ("mel", self._reordered(filterbank)),
        ):
            self.register_buffer(name, matrix.float(), persistent=False)

    def _first_stage(self, window: Tensor) -> Tensor:
        """Convolution weights [Q·half·2, 1, P]: group b gives real and imaginary part per k1."""
        a = torch.arange(self.p, dtype=torch.float64)
        b = torch.arange(self.q, dtype=torch.float64)[:, None, None]
        k1 = torch.arange(self.n_k1, dtype=torch.float64)[:, None]
        angle = -2 * math.pi * (a * k1 / self.p + b * k1 / self.n_fft)
        wave = torch.stack([angle.cos(), angle.sin()], dim=2)  # [Q, half, 2, P]
        folded = wave * window.double().view(self.p, self.q).T[:, None, None, :]
        return folded.reshape(-1, 1, self.p)

    def _second_stage(self) -> Tensor:
        """The complex Q-point transform as a real matrix [2Q, 2Q]: rows re then im of k2."""
        n = torch.arange(self.q, dtype=torch.float64)
        angle = -2 * math.pi * n[:, None] * n / self.q
        cos, sin = angle.cos(), angle.sin()
        rows_re = torch.stack([cos, -sin], dim=2).flatten(1)
        rows_im = torch.stack([sin, cos], dim=2).flatten(1)
        return torch.cat([rows_re, rows_im])

    def _reordered(self, filterbank: Tensor) -> Tensor:
        """The filterbank with bins in the order (k1, k2); one that comes twice counts once."""
        out = torch.zeros(len(filterbank), self.n_k1, self.q, dtype=torch.float64)
        seen = set()
        for k1 in range(self.n_k1):
            for k2 in range(self.q):
                k = k1 + self.p * k2
                k = min(k, self.n_fft - k)
                if k not in seen:
                    seen.add(k)
                    out[:, k1, k2] = filterbank[:, k]
        return out.flatten(1)

    def forward(self, padded: Tensor) -> Tensor:
        n_frames = 1 + (padded.shape[1] - self.n_fft) // self.hop
        used = (n_frames - 1) * self.hop + self.n_fft
        by_phase = padded[:, :used].reshape(-1, used // self.q, self.q).transpose(1, 2)
        inner = nn.functional.conv1d(by_phase, self.first, stride=self.hop // self.q, groups=self.q)
        inner = inner.reshape(-1, self.q, self.n_k1, 2 * n_frames).transpose(1, 2)
        outer = self.second @ inner.reshape(-1, self.n_k1, 2 * self.q, n_frames)
        re, im = outer[:, :, : self.q], outer[:, :, self.q :]
        power = (re * re + im * im).reshape(-1, self.n_k1 * self.q, n_frames)
        mel: Tensor = self.mel @ power
        return mel

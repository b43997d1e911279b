"""Waveforms of a lab: where crops are read from."""

from __future__ import annotations

from birdlab.data.store import WaveStore
from birdlab.lab import Lab


def open_waves(lab: Lab, sample_rate_hz: int) -> WaveStore:
    """The waveforms of the lab at a sample rate, kept or decoded on demand as its file says."""
    return WaveStore(lab.waves, sample_rate_hz, waveforms=lab.file.waveforms)

"""Waveforms of a lab: where crops are read from."""

from __future__ import annotations

from birdlab.data.store import WaveStore
from birdlab.lab import Lab


def open_waves(lab: Lab, sample_rate_hz: int) -> WaveStore:
    """The waveform store of the lab at a sample rate."""
    return WaveStore(lab.waves, sample_rate_hz)

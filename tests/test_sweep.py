"""Sweeps: a ranking from trained cells, failures beside it."""

from __future__ import annotations

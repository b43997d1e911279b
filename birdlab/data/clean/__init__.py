"""Cleaning: the rules of a spec, applied in order to every table, and their waterfall."""

from birdlab.data.clean import columns, listed, sound
from birdlab.data.clean.rules import (
    MAIN_TABLE,
    NEEDS_BUILD,
    CleanContext,
    apply_rules,
    in_scope,
    recordings_of,
)
from birdlab.data.clean.waterfall import DROPPED, IDENTITY, WATERFALL, Waterfall

__all__ = [
    "DROPPED",
    "IDENTITY",
    "MAIN_TABLE",
    "NEEDS_BUILD",
    "WATERFALL",
    "CleanContext",
    "Waterfall",
    "apply_rules",
    "columns",
    "in_scope",
    "listed",
    "recordings_of",
    "sound",
]

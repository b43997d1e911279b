"""Recordings: tables, sources, cleaning, folds, labels, decoding and the waveform store."""

"""Upkeep of a lab: what can be freed, whether it is well, runs that move in and out."""

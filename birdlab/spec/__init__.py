"""What to run, as data: experiments, sweeps, competition profiles, their identity and diff."""

from birdlab.spec.arms import sweep_arms
from birdlab.spec.competition import PROFILES, CompetitionSpec
from birdlab.spec.diff import diff_specs, flatten, title_of
from birdlab.spec.experiment import ExperimentSpec, load_spec, parse_overrides
from birdlab.spec.identity import canonical_json, component_versions, digest, spec_id
from birdlab.spec.sweep import Arm, Sweep, SweepSpec, load_sweep

__all__ = [
    "PROFILES",
    "Arm",
    "CompetitionSpec",
    "ExperimentSpec",
    "Sweep",
    "SweepSpec",
    "canonical_json",
    "component_versions",
    "diff_specs",
    "digest",
    "flatten",
    "load_spec",
    "load_sweep",
    "parse_overrides",
    "spec_id",
    "sweep_arms",
    "title_of",
]

"""What `birdlab new` writes: labs, experiments, sweeps, and ablations of what others reported."""

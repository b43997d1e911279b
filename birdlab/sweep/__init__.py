"""Many experiments at once: drivers that choose them, executors that run their cells."""
